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
    """The stage and sub-stage of each row of a snapshot: one query, one CASE for each.

    Parameters
    ----------
    features : a snapshot; any number of days
    value : customer_id, day and the value columns of the same rows
    stages, sub_stages : rules, in order; the first that holds wins
    parameters : what stands behind each ``$name`` of a rule

    Returns
    -------
    customer_id, day, stage, sub_stage, ordered by day and customer; exactly one row per row of `features`.

    Raises
    ------
    RuleError
        If a rule uses a column that neither table has.
    """
    given = tuple(name for name in OUTPUTS if name in value.column_names)
    query = _stage_sql(stages, sub_stages, tuple(features.column_names), given)
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
    """The query behind `apply_rules`.

    Parameters
    ----------
    columns : name in lower case to the table (features or value) and column it stands for
    """

    def condition(when: str, owner: str, parameters: Collection[str]) -> exp.Expr:
        tree = predicate(when, owner, parameters, columns)

        def place(node: exp.Expr) -> exp.Expr:
            if not isinstance(node, exp.Column):
                return node
            if node.table:
                raise RuleError(f"the rule of {owner}: write {node.name!r} without a table before it")
            table, name = columns[node.name.lower()]
            return exp.column(name, table, quoted=True)

        return exp.paren(tree.transform(place))

    stage = exp.Case()
    for rule in stages:
        stage = stage.when(condition(rule.when, f"stage {rule.name!r}", PARAMETERS), exp.Literal.string(rule.name))
    sub_stage = exp.Case()
    finer: list[exp.Expr] = []
    for place, sub in enumerate(sub_stages):
        # Each sub-rule is a column of the inner query, where the snapshot's columns are; the outer one knows the stage.
        held = condition(sub.when, f"sub-stage {sub.name!r} of {sub.stage!r}", (*PARAMETERS, *CUTS))
        finer.append(exp.alias_(held, f"holds_{place}"))
        is_stage = exp.column("stage", "staged").eq(exp.Literal.string(sub.stage))
        both = exp.and_(is_stage, exp.column(f"holds_{place}", "staged"))
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
    """Carry each customer's spell on from yesterday, or begin a new one.

    Parameters
    ----------
    today : customer_id, day, stage, sub_stage of one day
    yesterday : the columns of `lifecycle_stages` of the day before; None where there was no such day

    Returns
    -------
    customer_id, day and the other columns of `lifecycle_stages`, ordered by customer.
    """
    before = tables.LIFECYCLE_STAGES.empty() if yesterday is None else yesterday
    return engine.query(sql_of("ml.lifecycle", "spells"), today=today, yesterday=before)
