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
from ml.actions.spec import CONTROL, NONE, ActionSpec, ActionsSpec
from ml.engine import Engine, Input, sql_of

_OFFERS = pa.schema(
    [
        ("day", pa.date32()), ("micro_segment_id", pa.string()), ("stage", pa.string()), ("action", pa.string()),
        ("cost", pa.float64()), ("value", pa.float64()), ("ci_low", pa.float64()), ("capacity", pa.int64()),
        ("place", pa.int64()), ("reason", pa.string()),
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
) -> pa.Table:
    """The plan of each day: exactly one row for every customer.

    A micro-segment is offered the eligible, supported action with the largest effect minus cost among those whose
    interval clears the cost; none, if there is none. Customers are served by value per cost until an action's capacity
    or the budget ends; chance decides inside a micro-segment. The plan of a day is that of the whole cycle as seen on
    that day: the holdout is fixed for the cycle, offers follow the newest effects.

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

    Returns
    -------
    Columns of `tables.ACTION_PLAN` and `day`.
    """
    held_out = spec.holdout_share if spec.actions else 0.0  # with nothing to hand out, nobody is kept from it
    offers = _offers(engine.query(_GROUPS, micro_segments=micro_segments).to_pylist(), effects.to_pylist(), spec)
    rows = engine.query(
        sql_of("ml.actions", "plan"),
        {
            "start": start,
            "cycle_days": spec.cycle_days,
            "salt": salt,
            "holdout_share": held_out,
            "holdout_hex": _hex_bound(held_out),
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


def _offers(groups: list[dict[str, Any]], effects: list[dict[str, Any]], spec: ActionsSpec) -> pa.Table:
    """What each micro-segment deserves, in the order in which they are served."""
    measured = {(row["day"], row["micro_segment_id"], row["action"]): row for row in effects}
    days = {row["day"] for row in effects}
    offers = [_offer(group, measured, group["day"] in days, spec) for group in groups]
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
) -> dict[str, Any]:
    empty = {**group, "action": None, "cost": 0.0, "value": 0.0, "ci_low": 0.0, "capacity": None}
    if not spec.actions:
        return {**empty, "reason": "no action: none is declared"}
    eligible = [a for a in spec.actions if not a.eligible_stages or group["stage"] in a.eligible_stages]
    if not eligible:
        return {**empty, "reason": f"no action: none is meant for stage {group['stage']}"}
    if not any_effects:
        return {**empty, "reason": "no effects yet: no matured exposures"}
    known = [
        (action, row)
        for action in eligible
        if (row := measured.get((group["day"], group["micro_segment_id"], action.name))) is not None
    ]
    if not known:
        names = ", ".join(action.name for action in eligible)
        return {**empty, "reason": f"no effects yet: no matured exposures of {names}"}
    clear = [(a, row) for a, row in known if row["evidence_level"] != "unsupported" and row["ci_low"] - a.cost > 0]
    if not clear:
        return {**empty, "reason": _why_not(known)}
    action, row = min(clear, key=lambda pair: (pair[0].cost - pair[1]["effect"], pair[0].name))
    value = row["effect"] - action.cost
    return {
        **empty,
        "action": action.name,
        "cost": action.cost,
        "value": value,
        "ci_low": row["ci_low"] - action.cost,
        "capacity": action.capacity,
        "reason": f"{action.name}: +{_number(row['effect'])} expected against cost {action.cost:.2f}",
    }


def _why_not(known: list[tuple[ActionSpec, Mapping[str, Any]]]) -> str:
    """The reason of the action that came closest."""
    action, row = max(
        known, key=lambda pair: (pair[1]["evidence_level"] != "unsupported", pair[1]["ci_low"] - pair[0].cost)
    )
    interval = f"({_number(row['ci_low'])} … {_number(row['ci_high'])})"
    if row["evidence_level"] != "unsupported":
        return f"no action: the interval of {action.name} {interval} does not clear its cost {action.cost:.2f}"
    if row["design"] == "observational" and row["placebo"] != "passed":
        verdict = "failed" if row["placebo"] == "failed" else "cannot tell"
        return f"no action: {action.name} is observational and its placebo check {verdict} {interval}"
    return f"no action: {action.name} has too little evidence {interval}"


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


# A plan's reasons, in the order in which they are looked for.
_KINDS = (
    ("too little evidence", "unsupported"),
    ("placebo check", "unsupported"),
    ("does not clear its cost", "interval does not clear the cost"),
    ("no effects yet", "no effects yet"),
    ("is used up", "capacity used up"),
    ("the budget is spent", "budget spent"),
)


def plan_summary(plan: pa.Table) -> pa.Table:
    """How many customers got what, for which kind of reason, and what it is expected to bring.

    Returns
    -------
    day, action, kind, customers, expected_incremental_value (sum), cost (sum); ordered by day, action and kind.
    """
    groups: dict[tuple[date, str, str], list[float]] = {}
    columns = ("day", "action", "reason", "expected_incremental_value", "cost")
    counted = (
        plan.select(columns)
        .group_by(["day", "action", "reason"])
        .aggregate([("reason", "count"), ("expected_incremental_value", "sum"), ("cost", "sum")])
    )
    for row in counted.to_pylist():
        sums = groups.setdefault((row["day"], row["action"], _kind(row["action"], row["reason"])), [0, 0.0, 0.0])
        sums[0] += row["reason_count"]
        sums[1] += row["expected_incremental_value_sum"]
        sums[2] += row["cost_sum"]
    schema = pa.schema(
        [("day", pa.date32()), ("action", pa.string()), ("kind", pa.string()), ("customers", pa.int64()),
         ("expected_incremental_value", pa.float64()), ("cost", pa.float64())]
    )  # fmt: skip
    rows = [dict(zip(schema.names, (*key, *sums), strict=True)) for key, sums in sorted(groups.items())]
    return pa.Table.from_pylist(rows, schema=schema)


def _kind(action: str, reason: str) -> str:
    if action == CONTROL:
        return "held out"
    if action != NONE:
        return "acted upon"
    return next((kind for words, kind in _KINDS if words in reason), "not meant for them")
