"""The results of a day at a terminal: `microseg show` and the end of `microseg demo`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import click
import pyarrow as pa

from microseg_assets.cli import customer as one_customer
from microseg_assets.cli.printing import table as _table
from microseg_assets.cli.printing import title as _title
from microseg_assets.storage.lake import MissingPartitions
from microseg_assets.workspace import Workspace
from ml import tables
from ml.actions import plan_summary
from ml.report.data import WINDOW_DAYS, net_week
from ml.value import Basis, calibration_drift


def show(workspace: Workspace, what: str, *, day: date | None = None, customer: str | None = None) -> None:
    """Print one view of a day, the newest by default.

    Raises
    ------
    MissingPartitions
        If the day has not been built.
    """
    day = day or newest_day(workspace)
    match what:
        case "summary":
            summary(workspace, day)
        case "segments":
            segments(workspace, day, top=1000)
        case "movements":
            movements(workspace, day, top=40)
        case "plan":
            plan(workspace, day)
        case "customer":
            one_customer.show(workspace, day, str(customer))


def newest_day(workspace: Workspace) -> date:
    """The newest day that has been built up to its profiles."""
    keys = workspace.lake.keys(tables.MICRO_SEGMENT_PROFILES)
    if not keys:
        raise MissingPartitions("micro_segment_profiles", ["of any day"])
    return date.fromisoformat(keys[-1])


def summary(workspace: Workspace, day: date) -> None:
    """Print everything on one screen: stages, movements of the week, top micro-segments, the plan."""
    stages(workspace, day)
    movements(workspace, day, top=5)
    segments(workspace, day, top=8)
    plan(workspace, day)


def stages(workspace: Workspace, day: date) -> None:
    """Print the stages, their sizes, and their value."""
    rows = workspace.engine.query(
        """
        SELECT stage, customers, revenue, ltv, p_churn, customers * 1.0 / SUM(customers) OVER () AS share
        FROM profiles WHERE depth = 0 ORDER BY ltv DESC, stage
        """,
        profiles=_of(workspace, tables.MICRO_SEGMENT_PROFILES, [day]),
    )
    currency, basis = workspace.project.currency, _basis_of_value(workspace, day)
    money = "revenue" if basis is None else basis.value_of
    _title(f"Lifecycle stages on {day}")
    _table(
        ("stage", "customers", "share", f"28-day {money} {currency}", f"LTV {currency}", "P(no order)"),
        ((r["stage"], f"{r['customers']:,}", f"{r['share']:.1%}", f"{r['revenue']:,.0f}", f"{r['ltv']:,.0f}",
          f"{r['p_churn']:.0%}") for r in rows.to_pylist()),
    )  # fmt: skip
    if basis is not None:
        _print_basis(workspace, day, basis)


def _basis_of_value(workspace: Workspace, day: date) -> Basis | None:
    """What the sum of values rests on; None if there are none."""
    if workspace.lake.missing(tables.CUSTOMER_VALUE, [day]):
        return None
    return Basis.of(workspace.engine, workspace.lake.files(tables.CUSTOMER_VALUE, [day]))


def _print_basis(workspace: Workspace, day: date, basis: Basis) -> None:
    """Print what the sum of values rests on: its horizon, the season or the risk of one, and any drift."""
    in_margin = " of margin" if basis.value_of == "margin" else ""
    click.echo(f"  LTV in all {basis.ltv:,.0f} {workspace.project.currency}{in_margin}. {basis.words()}")
    earlier = day - timedelta(days=basis.horizon_days)
    has_earlier = not workspace.lake.missing(tables.CUSTOMER_VALUE, [earlier])
    if has_earlier and not workspace.lake.missing(workspace.project.features_table, [day]):
        features = _of(workspace, workspace.project.features_table, [day])
        earlier_value = _of(workspace, tables.CUSTOMER_VALUE, [earlier])
        drift = calibration_drift(
            workspace.engine, earlier_value, features, basis.horizon_days, basis.outlook, basis.value_of
        )
        if drift.has_drifted:
            click.echo(f"  Of what was expected on {earlier}: {drift.reason}")


def movements(workspace: Workspace, day: date, *, top: int) -> None:
    """Print the largest movements between micro-segments in the week up to `day`, net per customer, as in the atlas."""
    first = max(day - timedelta(days=WINDOW_DAYS - 1), workspace.calendar.start)
    known = set(workspace.lake.keys(tables.MOVEMENTS))
    days = [d for d in workspace.calendar.days(first, day) if d.isoformat() in known]
    names = _names(workspace, days)
    moves: dict[tuple[str, str, str], int] = {}
    for row in net_week(workspace.engine, _of(workspace, tables.MOVEMENTS, days), day):
        if row["cause"] and row["from_id"]:
            ends = (names.get(row[end], row[end]) for end in ("from_id", "to_id"))
            key = (*ends, row["cause"])
            moves[key] = moves.get(key, 0) + row["customers"]
    span = f"on {day}" if len(days) < 2 else f"of the {len(days)} days up to {day}"
    _title(f"Largest movements {span}, from where each customer was before to where they are now")
    largest = sorted(moves.items(), key=lambda item: (-item[1], item[0]))[:top]
    if not largest:
        click.echo("  No customer changed micro-segment.")
    _table(("customers", "from", "to", "cause"), ((f"{n:,}", f, t, c) for (f, t, c), n in largest))


def segments(workspace: Workspace, day: date, *, top: int) -> None:
    """Print the most valuable micro-segments."""
    rows = workspace.engine.query(
        """
        SELECT name, micro_segment, customers, revenue_per_customer, ltv, ltv_per_customer,
               ltv / NULLIF(SUM(ltv) OVER (), 0) AS share
        FROM profiles WHERE is_leaf ORDER BY ltv DESC, micro_segment LIMIT $top
        """,
        {"top": top},
        profiles=_of(workspace, tables.MICRO_SEGMENT_PROFILES, [day]),
    )
    currency = workspace.project.currency
    _title(f"Micro-segments by LTV over {workspace.project.value.horizon_days} days")
    _table(
        ("micro-segment", "customers", f"LTV {currency}", "share", "LTV each", "string"),
        ((r["name"], f"{r['customers']:,}", f"{r['ltv']:,.0f}", f"{r['share'] or 0:.1%}",
          f"{r['ltv_per_customer']:,.0f}", r["micro_segment"]) for r in rows.to_pylist()),
    )  # fmt: skip


def plan(workspace: Workspace, day: date) -> None:
    """Print what the plan does, and why it abstains where it does."""
    _title(f"The plan of {day}")
    effects = workspace.engine.query(
        "SELECT * FROM effects WHERE micro_segment = 'all' ORDER BY action",
        effects=_of(workspace, tables.ACTION_EFFECTS, [day]),
    )
    in_margin = " of margin" if workspace.project.value.of == "margin" else ""
    for row in effects.to_pylist():
        if row["effect"] is None:
            click.echo(f"  {row['action']}: not measured – {row['reason']}")
            continue
        reason = f" – {row['reason']}" if row["reason"] else ""
        verdict = f", placebo: {row['placebo']}" if row["design"] == "observational" else ""
        click.echo(
            f"  {row['action']}: {row['effect']:+,.2f} {workspace.project.currency}{in_margin} per customer "
            f"[{row['ci_low']:+,.2f}, {row['ci_high']:+,.2f}] ({row['design']}{verdict}; {row['treated']:,} treated, "
            f"{row['control']:,} control): {row['evidence_level']}{reason}"
        )
    if not effects.num_rows:
        click.echo("  No action has a measured effect yet.")
    rows = plan_summary(_of(workspace, tables.ACTION_PLAN, [day])).to_pylist()
    _table(
        ("action", "why", "customers", "expected value", "cost"),
        ((r["action"], r["kind"], f"{r['customers']:,}", f"{r['expected_incremental_value']:,.0f}", f"{r['cost']:,.0f}")
         for r in rows),
    )  # fmt: skip
    reasons = workspace.engine.query(
        """
        SELECT reason, COUNT(*) AS customers FROM plan WHERE action = 'none'
        GROUP BY reason ORDER BY customers DESC, reason LIMIT 3
        """,
        plan=_of(workspace, tables.ACTION_PLAN, [day]),
    )
    for row in reasons.to_pylist():
        click.echo(f"    {row['customers']:,} customers – {row['reason']}")


def _names(workspace: Workspace, days: Sequence[date]) -> dict[str, str]:
    """Names by micro-segment id, the newest day's where they differ."""
    rows = workspace.engine.query(
        "SELECT micro_segment_id, name FROM profiles ORDER BY day",
        profiles=_of(workspace, tables.MICRO_SEGMENT_PROFILES, days),
    )
    return dict(zip(rows["micro_segment_id"].to_pylist(), rows["name"].to_pylist(), strict=True))


def _of(workspace: Workspace, table: tables.Table, days: Sequence[date]) -> pa.Table:
    return workspace.engine.query("SELECT * FROM partitions", partitions=workspace.lake.files(table, days))
