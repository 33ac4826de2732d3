"""Who gets which action in a plan cycle, who is held out, and why.

Belongs here: turning effects into a plan under costs, capacity and budget. Does not belong here: how effects are
estimated (see `ml.actions.estimation`), and delivery.
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
from ml.layers import micro_segment_id
from ml.reasons import Reason, as_json, words

_OFFERS = pa.schema(
    [
        ("day", pa.date32()), ("micro_segment_id", pa.string()), ("stage", pa.string()), ("action", pa.string()),
        ("cost", pa.float64()), ("value", pa.float64()), ("ci_low", pa.float64()), ("capacity", pa.int64()),
        ("priority", pa.int64()), ("reason_code", pa.string()), ("reason_parameters", pa.string()),
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
    """Plan each day: exactly one row for every customer.

    A micro-segment is offered the eligible, supported action with the largest effect minus cost among those whose
    interval clears the cost, or none. Customers are served by value per cost until an action's capacity or the budget
    is used up; within a micro-segment the order is random. The plan of a day is that of the whole cycle as of that day:
    the holdout is fixed for the cycle, offers follow the newest effects. A customer is held out if the hash draws them
    and their micro-segment gets an action; where nothing is assigned, nobody is held out.

    `propensity` is the probability with which a customer got the row's action: the holdout share for the held out; its
    complement for the rest, times the share of their micro-segment that could be served where capacity or budget ends.
    `ci_low` is the lower end of the 90 % interval of the expected incremental value, after cost. Deliver held-out
    customers back as exposures to `control`, with the `campaign_id` of the customers they are compared with.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    micro_segments : Input
        Primary rows of `micro_segments`: customer_id, day, micro_segment_id, stage.
    effects : pa.Table
        From `effects`, of the same days.
    spec : ActionPolicy
        Actions, holdout and limits.
    start : date
        Day on which cycle 0 begins.
    salt : str
        Seed of the holdout; with the same one, the plan can be recomputed.
    why : str, default ""
        Why there are no effects at all, in the words of the choice in force.

    Returns
    -------
    pa.Table
        Columns of `tables.ACTION_PLAN` and `day`.

    Examples
    --------
    >>> from datetime import date
    >>> from ml.engine import DuckDB
    >>> day, string = date(2024, 1, 1), "active/value.A"
    >>> members = pa.table(
    ...     {
    ...         "customer_id": ["ann", "bob"],
    ...         "day": [day, day],
    ...         "micro_segment_id": [micro_segment_id(string)] * 2,
    ...         "stage": ["active", "active"],
    ...     }
    ... )
    >>> effect = {"micro_segment_id": micro_segment_id(string), "action": "mail", "effect": 4.0, "ci_low": 2.5}
    >>> effect |= {"ci_high": 5.5, "evidence_level": "own", "design": "randomised", "day": day}
    >>> policy = ActionPolicy(actions=(Action("mail", cost=1.0, capacity=1),), holdout_share=0.0)
    >>> rows = plan(DuckDB(), members, pa.Table.from_pylist([effect]), policy, start=day, salt="shop")
    >>> rows.select(["customer_id", "action", "propensity", "expected_incremental_value", "reason"]).to_pylist()
    [{'customer_id': 'ann', 'action': 'none', 'propensity': 0.5, 'expected_incremental_value': 0.0,
      'reason': 'the capacity of mail is used up'},
     {'customer_id': 'bob', 'action': 'mail', 'propensity': 0.5, 'expected_incremental_value': 3.0,
      'reason': 'mail: +4.00 expected against cost 1.00'}]
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
    """Append `reason`; each distinct reason is put in words once."""
    each = pc.binary_join_element_wise(rows["reason_code"], rows["reason_parameters"], "\n")
    reasons, cached = [], cache(_worded)
    # By chunk: in one array the texts of a large week would exceed the 2 GiB that Arrow's strings can hold.
    for chunk in pa.chunked_array(each).chunks:
        coded = chunk.dictionary_encode()
        reasons.append(pa.array(map(cached, coded.dictionary.to_pylist()), pa.string()).take(coded.indices))
    return rows.append_column("reason", pa.chunked_array(reasons, pa.string()))


def _worded(text: str) -> str:
    """The sentence of a code and its parameters, which are separated by a line break."""
    code, _, parameters = text.partition("\n")
    return words(PLAN_WORDS, code, json.loads(parameters))


def _hex_bound(share: float) -> str:
    """The upper bound of the first eight hex digits of this share of all hashes."""
    return "g" if share >= 1 else f"{max(0, round(share * 16**8)):08x}"


def _offers(groups: list[dict[str, Any]], effects: list[dict[str, Any]], spec: ActionPolicy, why: str) -> pa.Table:
    """What each micro-segment is offered, in the order in which they are served."""
    measured = {(row["day"], row["micro_segment_id"], row["action"]): row for row in effects}
    days = {row["day"] for row in effects}
    offers = [_offer(group, measured, group["day"] in days, spec, why) for group in groups]
    offers.sort(key=_priority)
    ranked = [{**offer, "priority": priority} for priority, offer in enumerate(offers)]
    return pa.Table.from_pylist(ranked, schema=_OFFERS)


def _priority(offer: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sort key: highest value per cost first, offers without cost before all others."""
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
    """Why no eligible action has an effect: the finding about the action as a whole, if there is one."""
    whole = micro_segment_id(ALL)
    for action in eligible:
        row = measured.get((day, whole, action.name))
        if row is not None and row.get("reason_code"):
            return _unsupported(row["reason_code"], finding_of(row))
    return Reason(PlanCode.NO_EFFECTS, {"why": "", "actions": [action.name for action in eligible]})


def _unsupported(code: str, finding: Reason, row: Mapping[str, Any] | None = None) -> Reason:
    """The finding against an effect, with its interval if there is one."""
    interval = {name: row[name] if row else None for name in ("ci_low", "ci_high")}
    return Reason(code, {"finding": finding.stored(), **interval})


def _why_not(known: list[tuple[Action, Mapping[str, Any]]]) -> Reason:
    """What prevents the action that came closest."""
    action, row = max(
        known, key=lambda pair: (pair[1]["evidence_level"] != "unsupported", pair[1]["ci_low"] - pair[0].cost)
    )
    if row["evidence_level"] != "unsupported":
        interval = {"ci_low": row["ci_low"], "ci_high": row["ci_high"]}
        return Reason(PlanCode.INTERVAL_INCLUDES_COST, {"action": action.name, "cost": action.cost, **interval})
    if row.get("reason_code"):
        return _unsupported(row["reason_code"], finding_of(row), row)
    if row["design"] == "observational" and row["placebo"] != "passed":  # effects of an older version give no reason
        finding = Finding("placebo_failed" if row["placebo"] == "failed" else "placebo_unclear")
        return _unsupported(finding.code, finding.reason(action.name), row)
    return _unsupported("too_few_customers", Reason(sentence=f"{action.name} has too little evidence"), row)


def unsupported_rows(engine: Engine, plan: pa.Table, effects: pa.Table) -> dict[date, int]:
    """Count rows of each day's plan that assign an action whose effect is unsupported or was never measured.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    plan : pa.Table
        From `plan`.
    effects : pa.Table
        From `effects`, of the same days.

    Returns
    -------
    dict of date to int
        Days with such rows; a valid plan has none.

    Examples
    --------
    >>> from datetime import date
    >>> from ml.engine import DuckDB
    >>> keys = {"day": [date(2024, 1, 1)], "micro_segment_id": ["1f"], "action": ["mail"]}
    >>> effects = pa.table({**keys, "evidence_level": ["unsupported"]})
    >>> unsupported_rows(DuckDB(), pa.table(keys), effects)
    {datetime.date(2024, 1, 1): 1}
    """
    counts = engine.query(
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
    return {row["day"]: row["n"] for row in counts.to_pylist()}


def plan_summary(plan: pa.Table) -> pa.Table:
    """Sum a plan by day, action and kind of reason.

    Parameters
    ----------
    plan : pa.Table
        From `plan`.

    Returns
    -------
    pa.Table
        Columns day, action, kind, customers, expected_incremental_value and cost, the last two as sums in currency;
        ordered by day, action and kind.

    Examples
    --------
    >>> from datetime import date
    >>> rows = pa.table(
    ...     {
    ...         "day": [date(2024, 1, 1)] * 3,
    ...         "action": ["mail", "mail", "control"],
    ...         "reason_code": ["planned", "planned", "held_out"],
    ...         "expected_incremental_value": [3.0, 3.5, 0.0],
    ...         "cost": [1.0, 1.0, 0.0],
    ...     }
    ... )
    >>> plan_summary(rows).drop_columns(["day", "cost"]).to_pylist()
    [{'action': 'control', 'kind': 'held out', 'customers': 1, 'expected_incremental_value': 0.0},
     {'action': 'mail', 'kind': 'acted upon', 'customers': 2, 'expected_incremental_value': 6.5}]
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
