"""Movements between two days, their causes and sums, and the path of each customer.

Belongs here: the comparison of groups that were assigned already. Does not belong here: assigning them, and recomputing
yesterday under today's models (`ml.restate`).
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from ml import tables
from ml.engine import Engine, Input, sql_of

_DAY = pa.field("day", pa.date32())
_GROUP = pa.schema([("customer_id", pa.string()), ("stage", pa.string()), ("micro_segment_id", pa.string())])
_FLOWS = pa.schema(
    [
        _DAY,
        ("level", pa.string()),
        ("from_group", pa.string()),
        ("to_group", pa.string()),
        ("cause", pa.string()),
        ("customers", pa.int64()),
    ]
)


def movements(
    engine: Engine,
    today: Input,
    yesterday: Input | None,
    restated: Input | None,
    inputs_today: Input | None = None,
    *,
    rule_stages: tuple[str, ...] = ("new", "reengaged"),
    rule_exits: tuple[str, ...] = ("active", "star"),
) -> pa.Table:
    """Where each customer known today was yesterday, and what moved it.

    Parameters
    ----------
    today : customer_id, day, stage, micro_segment_id: primary rows of one day
    yesterday : customer_id, stage, micro_segment_id as published the day before; None before the first day, and then
        everybody is an entry
    restated : yesterday recomputed under today's models, same columns; None if no model changed since
    inputs_today : customer_id, recency_days of today; without it no movement is put down to a rule
    rule_stages : stages that end by the passing of time alone
    rule_exits : the stages a customer then falls into

    Returns
    -------
    The columns of `movements` and `day`, a row per customer of today, ordered by customer. `cause` is

    - ``entry``: not there yesterday;
    - missing: same stage and micro-segment as published yesterday;
    - ``model``: new models alone put the customer where it is today;
    - ``behaviour``: the models leave the customer where it was, today differs;
    - ``both``: the models move it, and what it did moves it again;
    - ``rule``: like behaviour, but the customer bought nothing today and its stage ended by the calendar.

    Raises
    ------
    ValueError
        If `today` holds several days, a customer has two rows, one of yesterday's is gone, or `restated` lacks one.
    """
    before = _GROUP.empty_table() if yesterday is None else yesterday
    again = before if restated is None else restated
    given = {"today": today, "yesterday": before, "restated": again}
    _reconcile(engine, given)
    purchases = inputs_today
    if purchases is None:
        purchases = pa.table({"customer_id": pa.array([], pa.string()), "recency_days": pa.array([], pa.int64())})
    moved = engine.query(
        sql_of("ml.journeys", "movements"),
        **given,
        purchases=purchases,
        rule_stages=pa.table({"stage": pa.array(rule_stages, pa.string())}),
        rule_exits=pa.table({"stage": pa.array(rule_exits, pa.string())}),
    )
    return moved.cast(tables.MOVEMENTS.schema().append(_DAY))


def _reconcile(engine: Engine, given: Mapping[str, Input]) -> None:
    found = engine.query(sql_of("ml.journeys", "movement_counts"), **given).to_pylist()[0]
    for name in ("today", "yesterday", "restated"):
        if found[f"twice_{name}"]:
            raise ValueError(
                f"{name} has {found[f'twice_{name}']} rows too many: movements need one primary row per customer"
            )
    if found["days"] > 1:
        raise ValueError(f"today holds {found['days']} days: movements are computed for one day at a time")
    if found["vanished"]:
        raise ValueError(
            f"{found['vanished']} customers of yesterday are missing today (first: {found['first_vanished']}): who is "
            "known stays known, so today was computed on other data; recompute yesterday's micro-segments, then today's"
        )
    if found["not_restated"]:
        raise ValueError(
            f"{found['not_restated']} customers of yesterday are missing in its restatement: restate every customer "
            "that was known yesterday, from the same facts"
        )


def summary(engine: Engine, movements: Input, names: Mapping[str, str] | None = None, *, top: int = 20) -> pa.Table:
    """The biggest flows between stages and between micro-segments.

    Parameters
    ----------
    movements : what `movements` returned, of one day or several
    names : micro-segment id (not its string) to a name; an id without one is shown as it is
    top : flows kept per day and level

    Returns
    -------
    day, level (`stage` or `micro_segment`), from_group (missing on entry), to_group, cause, customers; per day stages
    first, then by customers, most first.
    """
    known = names or {}
    flows = engine.query(
        sql_of("ml.journeys", "flows"),
        {"top": top},
        movements=movements,
        names=pa.table(
            {
                "micro_segment_id": pa.array(list(known), pa.string()),
                "name": pa.array(list(known.values()), pa.string()),
            }
        ),
    )
    return flows.cast(_FLOWS)


def path(engine: Engine, stages: Input) -> pa.Table:
    """The ordered stages each customer has been through, with dwell times.

    Parameters
    ----------
    stages : customer_id, day, stage: a row per customer and observed day

    Returns
    -------
    customer_id, place (1 is the first spell observed), stage, since (date), dwell_days, is_current; ordered by customer
    and place. A spell lasts until the next one is first observed; the last one until the last observed day.
    """
    return engine.query(sql_of("ml.journeys", "path"), stages=stages)
