"""The queries that give every customer a stage, a sub-stage and a spell.

Belongs here: applying rules under a model's thresholds. Does not belong here: the thresholds (see `training`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from ml import tables
from ml.columns import numbers
from ml.engine import Engine, sql_of
from ml.lifecycle.cuts import TOP_SHARE, cut_for_share
from ml.lifecycle.model import LifecycleModel
from ml.lifecycle.rules import CUTS, PARAMETERS, StageRule, SubStageRule, predicate
from ml.lifecycle.spec import LifecycleSpec
from ml.rules import RuleError
from ml.value.spec import OUTPUTS

FIRST_SPEND = """
SELECT features.day AS day, features.customer_id AS customer_id, features.first_day_spend AS first_day_spend
FROM features JOIN staged ON staged.customer_id = features.customer_id AND staged.day = features.day
WHERE staged.stage = 'new'
ORDER BY features.day, features.customer_id
"""


def assign_stages(
    engine: Engine, features: pa.Table, value: pa.Table, model: LifecycleModel | None, spec: LifecycleSpec
) -> pa.Table:
    """The stage and sub-stage of each row of a snapshot: one query, one CASE for each.

    Parameters
    ----------
    features : a snapshot; any number of days
    value : customer_id, day and the value columns of the same rows
    model : the model in force; its rules and thresholds hold. None: the spec's rules and windows, nobody is a star,
        and of the sub-stages that need a cut only that of first purchases, which is read off each day itself

    Returns
    -------
    customer_id, day, stage, sub_stage, ordered by day and customer; exactly one row per row of `features`.

    Raises
    ------
    RuleError
        If a rule uses a column that neither table has.
    """
    if model is None:
        return _without_model(engine, features, value, spec)
    stages = model.stages or spec.rules()
    sub_stages = model.sub_stages or spec.sub_rules()
    given = tuple(name for name in OUTPUTS if name in value.column_names)
    query = _stage_sql(stages, sub_stages, tuple(features.column_names), given)
    return engine.query(query, model.parameters(), features=features, value=value)


def _without_model(engine: Engine, features: pa.Table, value: pa.Table, spec: LifecycleSpec) -> pa.Table:
    """Stages before there is a model: the cut of first purchases is that of the new customers of the day."""
    open_model = LifecycleModel(
        new_for=spec.first_new_for, churn_after=spec.first_churn_after, stages=spec.rules(), sub_stages=spec.sub_rules()
    )
    staged = assign_stages(engine, features, value, open_model, spec)
    if not any("new_first_spend_cut" in rule.when for rule in open_model.sub_stages):
        return staged
    spent = engine.query(FIRST_SPEND, features=features, staged=staged)
    parts = []
    for day in pc.unique(spent["day"]):
        cut = cut_for_share(numbers(spent.filter(pc.equal(spent["day"], day))["first_day_spend"]), TOP_SHARE)
        of_day = features.filter(pc.equal(features["day"], day))
        model = replace(open_model, new_first_spend_cut=cut)
        parts.append(assign_stages(engine, of_day, value, model, spec))
    without = staged.filter(pc.invert(pc.is_in(staged["day"], spent["day"])))
    return pa.concat_tables([*parts, without]).sort_by([("day", "ascending"), ("customer_id", "ascending")])


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
    """The query behind `assign_stages`.

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
