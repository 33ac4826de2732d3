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
    """Compare today's groups with yesterday's, and find the cause of each movement.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    today : Input
        Columns customer_id, day, stage and micro_segment_id: one row per customer, of one day.
    yesterday : Input or None
        Columns customer_id, stage and micro_segment_id, as published the day before. None on the first day, on which
        everybody is an entry.
    restated : Input or None
        Yesterday recomputed under today's models, with the same columns. None if no model has changed since.
    inputs_today : Input, optional
        Columns customer_id and recency_days of today. Without it no movement is attributed to a rule.
    rule_stages : tuple of str
        Stages that end by the passing of time alone.
    rule_exits : tuple of str
        Stages that customers enter then.

    Returns
    -------
    pa.Table
        The columns of `movements` and `day`, one row per customer of today, ordered by customer. `cause` is

        - ``entry``: not known yesterday;
        - missing: same stage and micro-segment as published yesterday;
        - ``model``: only the change of models moved the customer;
        - ``behaviour``: the models leave the customer where it was, its behaviour moved it;
        - ``both``: the models moved it, and its behaviour moved it again;
        - ``rule``: like behaviour, but the customer bought nothing today and its stage ended by the calendar.

    Raises
    ------
    ValueError
        If `today` holds several days, a customer has two rows, or a customer of yesterday is missing in `today` or
        in `restated`.

    Examples
    --------
    >>> from datetime import date
    >>> from ml.engine import DuckDB
    >>> yesterday = pa.table({"customer_id": ["a", "b"], "stage": ["new", "active"], "micro_segment_id": ["1", "2"]})
    >>> today = pa.table(
    ...     {
    ...         "customer_id": ["a", "b", "c"], "day": [date(2024, 6, 2)] * 3,
    ...         "stage": ["active", "active", "new"], "micro_segment_id": ["2", "2", "1"],
    ...     }
    ... )
    >>> movements(DuckDB(threads=1), today, yesterday, None).select(["customer_id", "cause"]).to_pylist()
    [{'customer_id': 'a', 'cause': 'behaviour'},
     {'customer_id': 'b', 'cause': None},
     {'customer_id': 'c', 'cause': 'entry'}]
    """
    before = _GROUP.empty_table() if yesterday is None else yesterday
    again = before if restated is None else restated
    groups = {"today": today, "yesterday": before, "restated": again}
    _check_reconciled(engine, groups)
    purchases = inputs_today
    if purchases is None:
        purchases = pa.table({"customer_id": pa.array([], pa.string()), "recency_days": pa.array([], pa.int64())})
    moved = engine.query(
        sql_of("ml.journeys", "movements"),
        **groups,
        purchases=purchases,
        rule_stages=pa.table({"stage": pa.array(rule_stages, pa.string())}),
        rule_exits=pa.table({"stage": pa.array(rule_exits, pa.string())}),
    )
    return moved.cast(tables.MOVEMENTS.schema().append(_DAY))


def _check_reconciled(engine: Engine, groups: Mapping[str, Input]) -> None:
    counts = engine.query(sql_of("ml.journeys", "movement_counts"), **groups).to_pylist()[0]
    for name in ("today", "yesterday", "restated"):
        if counts[f"twice_{name}"]:
            raise ValueError(
                f"{name} has {counts[f'twice_{name}']} rows too many: movements need one primary row per customer"
            )
    if counts["days"] > 1:
        raise ValueError(f"today holds {counts['days']} days: movements are computed for one day at a time")
    if counts["vanished"]:
        raise ValueError(
            f"{counts['vanished']} customers of yesterday are missing today (first: {counts['first_vanished']}): a "
            "known customer stays known, so today was computed on other data; recompute yesterday's micro-segments, "
            "then today's"
        )
    if counts["not_restated"]:
        raise ValueError(
            f"{counts['not_restated']} customers of yesterday are missing in its restatement: restate every customer "
            "that was known yesterday, from the same facts"
        )


def summary(engine: Engine, movements: Input, names: Mapping[str, str] | None = None, *, top: int = 20) -> pa.Table:
    """Sum movements up to the largest flows between stages and between micro-segments.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    movements : Input
        Result of `movements`, of one day or several.
    names : mapping of str to str, optional
        Micro-segment id (not its string) to a name. An id without a name stands for itself.
    top : int, default 20
        Flows per day and level.

    Returns
    -------
    pa.Table
        Columns day, level (`stage` or `micro_segment`), from_group (missing on entry), to_group, cause and customers.
        Per day, flows between stages come first, and larger flows before smaller ones.

    Examples
    --------
    >>> from datetime import date
    >>> from ml.engine import DuckDB
    >>> today = pa.table(
    ...     {
    ...         "customer_id": ["a", "b"], "day": [date(2024, 6, 2)] * 2,
    ...         "stage": ["new", "new"], "micro_segment_id": ["1", "1"],
    ...     }
    ... )
    >>> moved = movements(DuckDB(threads=1), today, None, None)
    >>> flows = summary(DuckDB(threads=1), moved, {"1": "newcomers"})
    >>> flows.select(["level", "to_group", "cause", "customers"]).to_pylist()
    [{'level': 'stage', 'to_group': 'new', 'cause': 'entry', 'customers': 2},
     {'level': 'micro_segment', 'to_group': 'newcomers', 'cause': 'entry', 'customers': 2}]
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
    """List the stages that each customer has been through, with dwell times.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    stages : Input
        Columns customer_id, day and stage: one row per customer and observed day.

    Returns
    -------
    pa.Table
        Columns customer_id, position (1 is the first spell observed), stage, since (date), dwell_days and is_current,
        ordered by customer and position. A spell lasts until the next one is first observed, the last one until the
        last observed day.

    Examples
    --------
    >>> from datetime import date
    >>> from ml.engine import DuckDB
    >>> days = [date(2024, 6, day) for day in (1, 2, 3)]
    >>> stages = pa.table({"customer_id": ["a"] * 3, "day": days, "stage": ["new", "new", "active"]})
    >>> path(DuckDB(threads=1), stages).select(["position", "stage", "dwell_days"]).to_pylist()
    [{'position': 1, 'stage': 'new', 'dwell_days': 2}, {'position': 2, 'stage': 'active', 'dwell_days': 1}]
    """
    return engine.query(sql_of("ml.journeys", "path"), stages=stages)
