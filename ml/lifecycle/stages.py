"""The queries that give every customer a stage, a sub-stage and a spell.

Belongs here: applying rules under given thresholds. Does not belong here: whose rules and thresholds hold (see
`model`), and how thresholds are found (see `training`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

import pyarrow as pa
from sqlglot import exp

from ml import tables
from ml.engine import Engine, sql_of
from ml.lifecycle.rules import CUTS, PARAMETERS, StageRule, SubStageRule, predicate
from ml.rules import RuleError
from ml.value.spec import OUTPUTS


def apply_rules(
    engine: Engine,
    features: pa.Table,
    value: pa.Table,
    stages: tuple[StageRule, ...],
    sub_stages: tuple[SubStageRule, ...],
    parameters: Mapping[str, float | int | None],
) -> pa.Table:
    """Apply rules to a snapshot: one query, with one CASE for the stage and one for the sub-stage.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    features : pa.Table
        A snapshot of one day or several.
    value : pa.Table
        Columns customer_id, day and the value columns of the same rows.
    stages : tuple of StageRule
        Stage rules, in order; the first that holds wins.
    sub_stages : tuple of SubStageRule
        Sub-stage rules, likewise.
    parameters : mapping of str to float
        Value of each ``$name`` of a rule; None while unknown.

    Returns
    -------
    pa.Table
        Columns customer_id, day, stage and sub_stage, ordered by day and customer: one row per row of `features`.

    Raises
    ------
    RuleError
        If a rule uses a column that neither table has.
    """
    value_columns = tuple(name for name in OUTPUTS if name in value.column_names)
    query = _stage_sql(stages, sub_stages, tuple(features.column_names), value_columns)
    return engine.query(query, parameters, features=features, value=value)


@lru_cache(maxsize=32)
def _stage_sql(
    stages: tuple[StageRule, ...],
    sub_stages: tuple[SubStageRule, ...],
    features: tuple[str, ...],
    value: tuple[str, ...],
) -> str:
    names = {name.lower(): ("features", name) for name in features} | {name: ("value", name) for name in value}
    return stage_query(stages, sub_stages, names).sql("duckdb")


def stage_query(
    stages: Sequence[StageRule], sub_stages: Sequence[SubStageRule], columns: Mapping[str, tuple[str, str]]
) -> exp.Select:
    """Build the query behind `apply_rules`.

    Parameters
    ----------
    stages : sequence of StageRule
        Stage rules, in order.
    sub_stages : sequence of SubStageRule
        Sub-stage rules, in order.
    columns : mapping of str to tuple of str
        Name in lower case to the table (features or value) and the column it stands for.

    Returns
    -------
    exp.Select
        The query.
    """

    def condition(when: str, owner: str, parameters: Collection[str]) -> exp.Expr:
        tree = predicate(when, owner, parameters, columns)

        def qualify(node: exp.Expr) -> exp.Expr:
            if not isinstance(node, exp.Column):
                return node
            if node.table:
                raise RuleError(f"the rule of {owner}: write {node.name!r} without a table before it")
            table, name = columns[node.name.lower()]
            return exp.column(name, table, quoted=True)

        return exp.paren(tree.transform(qualify))

    stage = exp.Case()
    for rule in stages:
        stage = stage.when(condition(rule.when, f"stage {rule.name!r}", PARAMETERS), exp.Literal.string(rule.name))
    sub_stage = exp.Case()
    finer: list[exp.Expr] = []
    for number, sub in enumerate(sub_stages):
        # Each sub-rule is a column of the inner query, where the snapshot's columns are; the outer one knows the stage.
        holds = condition(sub.when, f"sub-stage {sub.name!r} of {sub.stage!r}", (*PARAMETERS, *CUTS))
        finer.append(exp.alias_(holds, f"holds_{number}"))
        is_stage = exp.column("stage", "staged").eq(exp.Literal.string(sub.stage))
        both = exp.and_(is_stage, exp.column(f"holds_{number}", "staged"))
        sub_stage = sub_stage.when(both, exp.Literal.string(sub.name))
    chosen = sub_stage.else_(exp.column("stage", "staged")) if sub_stages else exp.column("stage", "staged")
    staged = (
        exp.select("features.customer_id AS customer_id", "features.day AS day", exp.alias_(stage, "stage"), *finer)
        .from_("features")
        .join("value", on="value.customer_id = features.customer_id AND value.day = features.day", join_type="left")
    )
    return (
        exp.select("staged.customer_id AS customer_id", "staged.day AS day", "staged.stage AS stage")
        .select(exp.alias_(chosen, "sub_stage"))
        .from_(staged.subquery("staged"))
        .order_by("staged.day", "staged.customer_id")
    )


def continue_spells(engine: Engine, today: pa.Table, yesterday: pa.Table | None) -> pa.Table:
    """Continue each customer's spell from yesterday, or begin a new one.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    today : pa.Table
        Columns customer_id, day, stage and sub_stage, of one day.
    yesterday : pa.Table or None
        Table `lifecycle_stages` of the day before; None if there was no such day.

    Returns
    -------
    pa.Table
        Columns customer_id, day and the other columns of `lifecycle_stages`, ordered by customer.

    Examples
    --------
    >>> from datetime import date
    >>> from ml.engine import DuckDB
    >>> first = pa.table({"customer_id": ["a"], "day": [date(2024, 6, 1)], "stage": ["new"], "sub_stage": ["new"]})
    >>> second = pa.table(
    ...     {"customer_id": ["a"], "day": [date(2024, 6, 2)], "stage": ["active"], "sub_stage": ["steady"]}
    ... )
    >>> engine = DuckDB(threads=1)
    >>> spells = continue_spells(engine, second, continue_spells(engine, first, None))
    >>> spells.select(["stage", "stage_since", "previous_stage", "path"]).to_pylist()
    [{'stage': 'active', 'stage_since': datetime.date(2024, 6, 2), 'previous_stage': 'new', 'path': 'new/active'}]
    """
    before = tables.LIFECYCLE_STAGES.empty() if yesterday is None else yesterday
    return engine.query(sql_of("ml.lifecycle", "spells"), today=today, yesterday=before)
