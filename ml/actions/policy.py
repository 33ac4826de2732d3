"""Who gets which action in a plan cycle, who is held out, and why.

Belongs here: turning effects into a plan under costs, capacity and budget. Does not belong here: how effects are
measured (see `ml.actions.response`), and delivery.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ml import tables
from ml.actions.reasons import PLAN_WORDS, Finding, PlanCode, finding_of, plan_kind, uncoded_kind
from ml.actions.spec import ALL, Action, ActionPolicy
from ml.engine import Engine, Input, sql_of
from ml.reasons import Reason, as_json, words
from ml.segments import micro_segment_id

_OFFERS = pa.schema(
    [
        ("day", pa.date32()), ("micro_segment_id", pa.string()), ("stage", pa.string()), ("action", pa.string()),
        ("cost", pa.float64()), ("value", pa.float64()), ("ci_low", pa.float64()), ("capacity", pa.int64()),
        ("place", pa.int64()), ("reason_code", pa.string()), ("reason_parameters", pa.string()),
        ("action_parameters", pa.string()),
    ]
)  # fmt: skip
_GROUPS = """
SELECT DISTINCT day, micro_segment_id, stage FROM micro_segments ORDER BY day, micro_segment_id, stage
"""


def plan(
    engine: Engine,
    micro_segments: Input,
    effects: pa.Table,
    spec: ActionPolicy,
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
    why : why there are no effects at all, in the words of the choice in force, if there are none

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
    return _in_words(rows).select(schema.names).cast(schema)


def _in_words(rows: pa.Table) -> pa.Table:
    """The rows with `reason`, each reason put in words once."""
    each = pc.binary_join_element_wise(rows["reason_code"], rows["reason_parameters"], "\n")
    reasons, said = [], cache(_said)
    # Chunk by chunk: in one array the texts of a large week would be more than the 2 GiB that Arrow's strings hold.
    for chunk in pa.chunked_array(each).chunks:
        coded = chunk.dictionary_encode()
        reasons.append(pa.array(map(said, coded.dictionary.to_pylist()), pa.string()).take(coded.indices))
    return rows.append_column("reason", pa.chunked_array(reasons, pa.string()))


def _said(text: str) -> str:
    """The words of a code and its parameters, which a line break parts."""
    code, _, parameters = text.partition("\n")
    return words(PLAN_WORDS, code, json.loads(parameters))


def _hex_bound(share: float) -> str:
    """The text below which lie the first eight hex digits of this share of all hashes."""
    return "g" if share >= 1 else f"{max(0, round(share * 16**8)):08x}"


def _offers(groups: list[dict[str, Any]], effects: list[dict[str, Any]], spec: ActionPolicy, why: str) -> pa.Table:
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
    spec: ActionPolicy,
    why: str,
) -> dict[str, Any]:
    empty = {**group, "action": None, "cost": 0.0, "value": 0.0, "ci_low": 0.0, "capacity": None}

    def because(reason: Reason) -> dict[str, Any]:
        return {"reason_code": str(reason.code), "reason_parameters": as_json(reason.parameters)}

    def none(code: PlanCode, **parameters: Any) -> dict[str, Any]:
        return {**empty, **because(Reason(code, parameters))}

    if not spec.actions:
        return none(PlanCode.NONE_DECLARED)
    eligible = [a for a in spec.actions if not a.eligible_stages or group["stage"] in a.eligible_stages]
    if not eligible:
        return none(PlanCode.STAGE_NOT_ELIGIBLE, stage=group["stage"])
    if not any_effects:
        return none(PlanCode.NO_EFFECTS, why=why, actions=[])
    rows = [(action, measured.get((group["day"], group["micro_segment_id"], action.name))) for action in eligible]
    known = [(action, row) for action, row in rows if row is not None and row["effect"] is not None]
    if not known:
        return {**empty, **because(_why_none(group["day"], eligible, measured))}
    clear = [(a, row) for a, row in known if row["evidence_level"] != "unsupported" and row["ci_low"] - a.cost > 0]
    if not clear:
        return {**empty, **because(_why_not(known))}
    action, row = min(clear, key=lambda pair: (pair[0].cost - pair[1]["effect"], pair[0].name))
    value = row["effect"] - action.cost
    return {
        **empty,
        "action": action.name,
        "cost": action.cost,
        "value": value,
        "ci_low": row["ci_low"] - action.cost,
        "capacity": action.capacity,
        "action_parameters": json.dumps({"action": action.name}),
        **because(Reason(PlanCode.PLANNED, {"action": action.name, "effect": row["effect"], "cost": action.cost})),
    }


def _why_none(day: date, eligible: list[Action], measured: Mapping[tuple[date, str, str], Mapping[str, Any]]) -> Reason:
    """Why no eligible action has an effect: what is known of it as a whole, if anything is."""
    whole = micro_segment_id(ALL)
    for action in eligible:
        row = measured.get((day, whole, action.name))
        if row is not None and row.get("reason_code"):
            return _unsupported(row["reason_code"], finding_of(row))
    return Reason(PlanCode.NO_EFFECTS, {"why": "", "actions": [action.name for action in eligible]})


def _unsupported(code: str, finding: Reason, row: Mapping[str, Any] | None = None) -> Reason:
    """What was found against an effect, with its interval if there is one."""
    interval = {name: row[name] if row else None for name in ("ci_low", "ci_high")}
    return Reason(code, {"finding": finding.stored(), **interval})


def _why_not(known: list[tuple[Action, Mapping[str, Any]]]) -> Reason:
    """What keeps the action that came closest."""
    action, row = max(
        known, key=lambda pair: (pair[1]["evidence_level"] != "unsupported", pair[1]["ci_low"] - pair[0].cost)
    )
    if row["evidence_level"] != "unsupported":
        interval = {"ci_low": row["ci_low"], "ci_high": row["ci_high"]}
        return Reason(PlanCode.INTERVAL_INCLUDES_COST, {"action": action.name, "cost": action.cost, **interval})
    if row.get("reason_code"):
        return _unsupported(row["reason_code"], finding_of(row), row)
    if row["design"] == "observational" and row["placebo"] != "passed":  # effects of an older version give no reason
        found = Finding("placebo_failed" if row["placebo"] == "failed" else "placebo_unclear")
        return _unsupported(found.code, found.reason(action.name), row)
    return _unsupported("too_few_customers", Reason(text=f"{action.name} has too little evidence"), row)


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
