"""Who gets which action in a plan cycle, who is held out, and why.

Belongs here: turning effects into a plan under costs, capacity and budget. Does not belong here: how effects are
measured (see `ml.actions.response`), and delivery.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import pyarrow as pa

from ml import tables
from ml.actions.reasons import Finding, plan_kind, uncoded_kind
from ml.actions.spec import ALL, ActionSpec, ActionsSpec
from ml.engine import Engine, Input, sql_of
from ml.segments import micro_segment_id

_OFFERS = pa.schema(
    [
        ("day", pa.date32()), ("micro_segment_id", pa.string()), ("stage", pa.string()), ("action", pa.string()),
        ("cost", pa.float64()), ("value", pa.float64()), ("ci_low", pa.float64()), ("capacity", pa.int64()),
        ("place", pa.int64()), ("reason_code", pa.string()), ("reason", pa.string()),
    ]
)  # fmt: skip
_GROUPS = """
SELECT DISTINCT day, micro_segment_id, stage FROM micro_segments ORDER BY day, micro_segment_id, stage
"""


def plan(
    engine: Engine,
    micro_segments: Input,
    effects: pa.Table,
    spec: ActionsSpec,
    *,
    start: date,
    salt: str,
    why: str = "",
) -> pa.Table:
    """The plan of each day: exactly one row for every customer.

    A micro-segment is offered the eligible, supported action with the largest effect minus cost among those whose
    interval clears the cost; none, if there is none. Customers are served by value per cost until an action's capacity
    or the budget ends; chance decides inside a micro-segment. The plan of a day is that of the whole cycle as seen on
    that day: who is held out is fixed for the cycle, offers follow the newest effects. Held out are those whom the hash
    draws and whose micro-segment gets something: where nothing is handed out, nobody is kept from it.

    `propensity` is the chance with which the row came about: the holdout share for the held out; its complement for the
    rest, times the share of their micro-segment that could be served where capacity or budget ends. `ci_low` is the
    lower end of the 90 % interval of the expected incremental value, cost subtracted. Held-out customers come back as
    exposures to `control`; give them the `campaign_id` of the customers they are compared with.

    Parameters
    ----------
    micro_segments : primary rows: customer_id, day, micro_segment_id, stage
    effects : from `effects`, of the same days
    start : day on which cycle 0 begins
    salt : changes who is held out; kept the same, the plan can be recomputed
    why : why there are no effects at all, in words, if there are none

    Returns
    -------
    Columns of `tables.ACTION_PLAN` and `day`.
    """
    groups = engine.query(_GROUPS, micro_segments=micro_segments).to_pylist()
    offers = _offers(groups, effects.to_pylist(), spec, why)
    rows = engine.query(
        sql_of("ml.actions", "plan"),
        {
            "start": start,
            "cycle_days": spec.cycle_days,
            "salt": salt,
            "holdout_share": spec.holdout_share,
            "holdout_hex": _hex_bound(spec.holdout_share),
            "budget": spec.budget,
        },
        micro_segments=micro_segments,
        offers=offers,
    )
    schema = tables.ACTION_PLAN.schema().append(pa.field("day", pa.date32()))
    return rows.select(schema.names).cast(schema)


def _hex_bound(share: float) -> str:
    """The text below which lie the first eight hex digits of this share of all hashes."""
    return "g" if share >= 1 else f"{max(0, round(share * 16**8)):08x}"


def _offers(groups: list[dict[str, Any]], effects: list[dict[str, Any]], spec: ActionsSpec, why: str) -> pa.Table:
    """What each micro-segment deserves, in the order in which they are served."""
    measured = {(row["day"], row["micro_segment_id"], row["action"]): row for row in effects}
    days = {row["day"] for row in effects}
    offers = [_offer(group, measured, group["day"] in days, spec, why) for group in groups]
    offers.sort(key=_turn)
    return pa.Table.from_pylist([{**offer, "place": place} for place, offer in enumerate(offers)], schema=_OFFERS)


def _turn(offer: Mapping[str, Any]) -> tuple[Any, ...]:
    """Best value per cost first; what costs nothing before all else."""
    if offer["action"] is None:
        return (1, 0.0, 0.0, offer["day"], offer["micro_segment_id"], offer["stage"])
    rate = offer["value"] / offer["cost"] if offer["cost"] > 0 else float("inf")
    return (0, -rate, -offer["value"], offer["day"], offer["micro_segment_id"], offer["stage"])


def _offer(
    group: Mapping[str, Any],
    measured: Mapping[tuple[date, str, str], Mapping[str, Any]],
    any_effects: bool,
    spec: ActionsSpec,
    why: str,
) -> dict[str, Any]:
    empty = {**group, "action": None, "cost": 0.0, "value": 0.0, "ci_low": 0.0, "capacity": None}

    def none(code: str, reason: str) -> dict[str, Any]:
        return {**empty, "reason_code": code, "reason": reason}

    if not spec.actions:
        return none("none_declared", "no action: none is declared")
    eligible = [a for a in spec.actions if not a.eligible_stages or group["stage"] in a.eligible_stages]
    if not eligible:
        return none("stage_not_eligible", f"no action: none is meant for stage {group['stage']}")
    if not any_effects:
        return none("no_effects", f"no effects yet: {why or 'no matured exposures'}")
    rows = [(action, measured.get((group["day"], group["micro_segment_id"], action.name))) for action in eligible]
    known = [(action, row) for action, row in rows if row is not None and row["effect"] is not None]
    if not known:
        return none(*_why_none(group["day"], eligible, measured))
    clear = [(a, row) for a, row in known if row["evidence_level"] != "unsupported" and row["ci_low"] - a.cost > 0]
    if not clear:
        return none(*_why_not(known))
    action, row = min(clear, key=lambda pair: (pair[0].cost - pair[1]["effect"], pair[0].name))
    value = row["effect"] - action.cost
    return {
        **empty,
        "action": action.name,
        "cost": action.cost,
        "value": value,
        "ci_low": row["ci_low"] - action.cost,
        "capacity": action.capacity,
        "reason_code": "planned",
        "reason": f"{action.name}: +{_number(row['effect'])} expected against cost {action.cost:.2f}",
    }


def _why_none(
    day: date, eligible: list[ActionSpec], measured: Mapping[tuple[date, str, str], Mapping[str, Any]]
) -> tuple[str, str]:
    """Code and words where no eligible action has an effect: what is known of it as a whole, if anything is."""
    whole = micro_segment_id(ALL)
    for action in eligible:
        row = measured.get((day, whole, action.name))
        if row is not None and row.get("reason_code"):
            return row["reason_code"], f"no effects yet: {row['reason']}"
    return "no_effects", f"no effects yet: no matured exposures of {', '.join(action.name for action in eligible)}"


def _why_not(known: list[tuple[ActionSpec, Mapping[str, Any]]]) -> tuple[str, str]:
    """Code and words of the action that came closest."""
    action, row = max(
        known, key=lambda pair: (pair[1]["evidence_level"] != "unsupported", pair[1]["ci_low"] - pair[0].cost)
    )
    interval = f"({_number(row['ci_low'])} … {_number(row['ci_high'])})"
    if row["evidence_level"] != "unsupported":
        words = f"the interval of {action.name} {interval} does not clear its cost {action.cost:.2f}"
        return "interval_includes_cost", f"no action: {words}"
    if row.get("reason_code"):
        return row["reason_code"], f"no action: {row['reason']} {interval}"
    if row["design"] == "observational" and row["placebo"] != "passed":  # effects of an older version give no reason
        finding = Finding("placebo_failed" if row["placebo"] == "failed" else "placebo_unclear")
        return finding.code, f"no action: {finding.words(action.name)} {interval}"
    return "too_few_customers", f"no action: {action.name} has too little evidence {interval}"


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def unsupported_rows(engine: Engine, plan: pa.Table, effects: pa.Table) -> dict[date, int]:
    """How many rows of each day's plan hand out an action whose effect is unsupported or was never measured.

    The law of the plan is that there is none; days without such a row are left out.
    """
    found = engine.query(
        """
        SELECT plan.day AS day, COUNT(*) AS n
        FROM plan LEFT JOIN effects ON effects.day = plan.day AND effects.micro_segment_id = plan.micro_segment_id
            AND effects.action = plan.action
        WHERE plan.action NOT IN ('none', 'control')
            AND COALESCE(effects.evidence_level, 'unsupported') = 'unsupported'
        GROUP BY plan.day ORDER BY plan.day
        """,
        plan=plan,
        effects=effects,
    )
    return {row["day"]: row["n"] for row in found.to_pylist()}


def plan_summary(plan: pa.Table) -> pa.Table:
    """How many customers got what, for which kind of reason, and what it is expected to bring.

    Returns
    -------
    day, action, kind, customers, expected_incremental_value (sum), cost (sum); ordered by day, action and kind.
    """
    groups: dict[tuple[date, str, str], list[float]] = {}
    columns = ["day", "action", "reason_code", "expected_incremental_value", "cost"]
    counted = (
        plan.select(columns)
        .group_by(["day", "action", "reason_code"])
        .aggregate([("cost", "count"), ("expected_incremental_value", "sum"), ("cost", "sum")])
    )
    for row in counted.to_pylist():
        kind = plan_kind(row["reason_code"]) if row["reason_code"] else uncoded_kind(row["action"])
        sums = groups.setdefault((row["day"], row["action"], kind), [0, 0.0, 0.0])
        sums[0] += row["cost_count"]
        sums[1] += row["expected_incremental_value_sum"]
        sums[2] += row["cost_sum"]
    schema = pa.schema(
        [("day", pa.date32()), ("action", pa.string()), ("kind", pa.string()), ("customers", pa.int64()),
         ("expected_incremental_value", pa.float64()), ("cost", pa.float64())]
    )  # fmt: skip
    rows = [dict(zip(schema.names, (*key, *sums), strict=True)) for key, sums in sorted(groups.items())]
    return pa.Table.from_pylist(rows, schema=schema)
