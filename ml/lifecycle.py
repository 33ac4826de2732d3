"""Lifecycle: the one stage of each known customer, the finer state inside it, and how long the spell has lasted.

Belongs here: the stage rules of the shipped businesses, the weekly fit that freezes their thresholds, and the two
queries that apply them. Does not belong here: what a customer is worth (see `ml.value`) and why a customer moved (see
`ml.journeys`).

Rules are SQL predicates over the snapshot and the value columns, in order; the first that holds wins, and one that
comes out as NULL does not hold. Every threshold is a parameter with a frozen value, so a day can be computed alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from ml import tables
from ml.engine import DuckDB, Engine, sql_of
from ml.rules import RuleError, nearest, scalar
from ml.training import Decision, Training
from ml.value.model import ValueModel, apply
from ml.value.spec import OUTPUTS, ValueSpec, baseline

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ml.features import Facts

METRIC = "star_share_error"
TOP_SHARE = 0.10  # of new customers who are high-potential
PARAMETERS = ("new_for", "churn_after", "star_cut")
CUTS = (
    "new_ltv_cut",
    "active_median_ltv",
    "active_median_orders",
    "active_high_orders",
    "active_high_spend",
    "active_high_basket",
)
VALUE_COLUMNS = OUTPUTS


@dataclass(frozen=True)
class StageRule:
    """A stage, the predicate that puts a customer into it, and what to do about such customers.

    `when` may use the snapshot's columns, ltv, p_alive, expected_orders and expected_spend, and the parameters
    ``$new_for``, ``$churn_after`` (days) and ``$star_cut`` (currency; NULL while unknown).
    """

    name: str
    when: str
    treatment: str = ""


@dataclass(frozen=True)
class SubStageRule:
    """A finer state inside a stage. `when` may also use the cuts of `CUTS`; where none holds it is the stage's name."""

    stage: str
    name: str
    when: str
    treatment: str = ""


def _stages(first: StageRule) -> tuple[StageRule, ...]:
    return (
        first,
        StageRule("churn", "recency_days > $churn_after", "Win back while it still pays; ask why they left"),
        StageRule("reengaged", "comeback_gap_days > $churn_after", "Welcome back; make the next purchase easy"),
        StageRule("new", "tenure_days < $new_for", "Onboard; earn the second purchase"),
        StageRule("star", "ltv >= $star_cut", "Recognise and protect; no discount they do not need"),
        StageRule("active", "true", "Keep the habit; grow it where there is room"),
    )


PRESET_STAGES: Mapping[str, tuple[StageRule, ...]] = {
    "retail": _stages(StageRule("prospect", "recency_days IS NULL", "Win the first purchase")),
    "gaming": _stages(StageRule("fun", "recency_days IS NULL", "Let them play; time the first offer well")),
}
PRESET_SUB_STAGES: tuple[SubStageRule, ...] = (
    SubStageRule("new", "high-potential", "ltv >= $new_ltv_cut", "Give a personal start; show the whole range"),
    SubStageRule("new", "one-time-only", "purchase_days = 1", "Bring about the second purchase soon"),
    SubStageRule("new", "settling", "true", "Support the habit that is forming"),
    SubStageRule(
        "active",
        "at-risk",
        "ltv >= $active_median_ltv AND recency_days > 7 AND recency_days > 2 * mean_gap_days",
        "Reach out before the silence becomes a habit",
    ),
    SubStageRule(
        "active",
        "best",
        "recency_days < 14 AND orders_90d >= $active_high_orders AND spend_90d >= $active_high_spend",
        "Thank; offer what stars get",
    ),
    SubStageRule(
        "active",
        "big-basket",
        "average_order_90d >= $active_high_basket AND orders_90d <= $active_median_orders",
        "Give a reason to come between the big trips",
    ),
    SubStageRule(
        "active",
        "rising",
        "tenure_days >= 56 AND spend_28d > 1.5 * spend_prev_28d AND orders_28d > orders_prev_28d",
        "Find out what grows and feed it",
    ),
    SubStageRule("active", "steady", "true", "Keep the service; widen the range gently"),
    SubStageRule(
        "churn", "formerly-active-with-balance", "purchase_days > 1 AND balance > 0", "Remind them of their balance"
    ),
    SubStageRule("churn", "formerly-active", "purchase_days > 1", "One good win-back offer, then let go"),
    SubStageRule("churn", "single-purchase", "true", "Low-cost reminder only"),
)


@dataclass(frozen=True)
class LifecycleSpec:
    """Stages of a business.

    Parameters
    ----------
    business : whose preset stages hold where `stages` is empty
    stages : the project's own, in order; the last one's `when` must be ``"true"``, so that nobody is left out
    sub_stages : the project's own; empty takes the preset ones of the stages that exist
    new_for_days : days since the first purchase for which a customer is new
    churn_after_days : days of silence after which a customer has churned, 14 to 365
    star_share : share of active customers (stars among them) that are stars when the cut is frozen
    star_tolerance : how far that share may drift before the cut is frozen anew
    min_customers : below so many customers who ever bought, no cut is learnt

    Raises
    ------
    ValueError
        If the stages cannot give each customer exactly one stage, or a rule cannot be accepted.
    """

    business: Literal["retail", "gaming"] = "retail"
    stages: tuple[StageRule, ...] = ()
    sub_stages: tuple[SubStageRule, ...] = ()
    new_for_days: int = 28
    churn_after_days: int = 60
    star_share: float = 0.10
    star_tolerance: float = 0.02
    min_customers: int = 200

    def __post_init__(self) -> None:
        if self.business not in PRESET_STAGES:
            raise ValueError(f"lifecycle.business is {self.business!r}; {nearest(self.business, PRESET_STAGES)}")
        if not 14 <= self.churn_after_days <= 365:
            raise ValueError(f"lifecycle.churn_after_days is {self.churn_after_days}; it must lie between 14 and 365")
        if self.new_for_days < 1:
            raise ValueError(f"lifecycle.new_for_days is {self.new_for_days}; it must be at least 1")
        if not 0 < self.star_share < 1:
            raise ValueError(f"lifecycle.star_share is {self.star_share}; write 0.10 for the top ten percent")
        _check_stages(self.rules())
        _check_sub_stages(self.sub_stages, self.stage_names())

    def rules(self) -> tuple[StageRule, ...]:
        """The stage rules in force: the project's own, or the preset of its business."""
        return self.stages or PRESET_STAGES[self.business]

    def sub_rules(self) -> tuple[SubStageRule, ...]:
        """The sub-stage rules in force, only of stages that exist."""
        names = self.stage_names()
        return self.sub_stages or tuple(rule for rule in PRESET_SUB_STAGES if rule.stage in names)

    def stage_names(self) -> tuple[str, ...]:
        return tuple(rule.name for rule in self.rules())

    def treatments(self) -> dict[str, str]:
        """Suggested treatment of each ``stage`` and ``stage/sub-stage``."""
        by_stage = {rule.name: rule.treatment for rule in self.rules()}
        return by_stage | {f"{rule.stage}/{rule.name}": rule.treatment for rule in self.sub_rules()}


def _check_stages(rules: Sequence[StageRule]) -> None:
    names = [rule.name for rule in rules]
    for rule in rules:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_ -]*", rule.name):
            raise ValueError(f"lifecycle stage {rule.name!r}: use letters, digits, spaces, '-' and '_' in its name")
        if names.count(rule.name) > 1:
            raise ValueError(f"lifecycle stage {rule.name!r} stands twice; join its rules with OR")
        _predicate(rule.when, f"stage {rule.name!r}", PARAMETERS)
    last = rules[-1]
    if not _is_true(last.when):
        raise ValueError(
            f'the last lifecycle stage, {last.name!r}, has the rule {last.when!r}: its `when` must be "true", '
            "so that every customer gets a stage"
        )
    for rule in rules[:-1]:
        if _is_true(rule.when):
            raise ValueError(f"lifecycle stage {rule.name!r} takes everybody, so the stages after it are never reached")


def _check_sub_stages(rules: Sequence[SubStageRule], stages: Collection[str]) -> None:
    for rule in rules:
        if rule.stage not in stages:
            raise ValueError(
                f"sub-stage {rule.name!r} belongs to {rule.stage!r}, which is not a stage; "
                f"{nearest(rule.stage, stages)}"
            )
        _predicate(rule.when, f"sub-stage {rule.name!r} of {rule.stage!r}", (*PARAMETERS, *CUTS))


def _predicate(when: str, owner: str, parameters: Collection[str], columns: Collection[str] | None = None) -> exp.Expr:
    """Parse a rule; the error says whose rule it is."""
    try:
        return scalar(when, columns, parameters)
    except RuleError as error:
        raise RuleError(f"the rule of {owner}: {error}") from None


def _is_true(when: str) -> bool:
    tree = scalar(when, None, (*PARAMETERS, *CUTS)).unnest()
    return isinstance(tree, exp.Boolean) and bool(tree.this)


# ── the frozen thresholds ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class LifecycleModel:
    """Stage rules with every threshold frozen.

    A trained model carries the rules it was frozen for, so that an edited project file comes into force with the next
    training week and not in the middle of one. Without rules of its own it takes the spec's.

    Parameters
    ----------
    star_cut : least ltv of a star; None means there are no stars
    new_for, churn_after : windows, days
    new_ltv_cut : ltv of the top tenth of new customers
    active_median_ltv, active_median_orders : medians of active customers without stars
    active_high_orders, active_high_spend, active_high_basket : their upper quartiles of orders_90d, spend_90d and
        average_order_90d
    stages, sub_stages : the rules
    horizon_days, annual_discount_rate : how `predict` counts ltv where the frame brings none
    """

    star_cut: float | None = None
    new_for: int = 28
    churn_after: int = 60
    new_ltv_cut: float | None = None
    active_median_ltv: float | None = None
    active_median_orders: float | None = None
    active_high_orders: float | None = None
    active_high_spend: float | None = None
    active_high_basket: float | None = None
    stages: tuple[StageRule, ...] = ()
    sub_stages: tuple[SubStageRule, ...] = ()
    horizon_days: int = 90
    annual_discount_rate: float = 0.10

    def parameters(self) -> dict[str, float | int | None]:
        """What stands behind each ``$name`` of a rule."""
        return {name: getattr(self, name) for name in (*PARAMETERS, *CUTS)}

    def save(self, folder: Path) -> None:
        (folder / "lifecycle_model.json").write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        stored = json.loads((folder / "lifecycle_model.json").read_text(encoding="utf-8"))
        known = {f.name for f in fields(cls)}
        stored = {name: value for name, value in stored.items() if name in known}
        stored["stages"] = tuple(StageRule(**rule) for rule in stored["stages"])
        stored["sub_stages"] = tuple(SubStageRule(**rule) for rule in stored["sub_stages"])
        return cls(**stored)

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """stage and sub_stage of each row of a frame with the snapshot's columns.

        Value columns are optional: without ltv, "spend stays as it was" takes its place (`ml.value.baseline`).
        """
        import pandas as pd

        rows = len(features)
        known = features.drop(columns=["customer_id", "day"], errors="ignore")
        table = _typed(pa.Table.from_pandas(known, preserve_index=False))
        table = table.append_column("customer_id", pa.array([f"{place:012d}" for place in range(rows)], pa.string()))
        table = table.append_column("day", pa.array([date(1970, 1, 1)] * rows, pa.date32()))
        value_spec = ValueSpec(horizon_days=self.horizon_days, annual_discount_rate=self.annual_discount_rate)
        if "ltv" in table.column_names:
            given = [name for name in VALUE_COLUMNS if name in table.column_names]
            value = table.select(["customer_id", "day", *given])
        else:
            value = baseline(table, value_spec)
        found = assign_stages(DuckDB(threads=1), table, value, self, LifecycleSpec())
        columns = {name: found[name].to_pylist() for name in ("stage", "sub_stage")}
        return pd.DataFrame(columns, index=features.index)


def _typed(table: pa.Table) -> pa.Table:
    """Give columns that are empty throughout their declared type, so that a rule can compare them."""
    declared = tables.CUSTOMER_FEATURES.schema()
    for place, column in enumerate(table.schema):
        if pa.types.is_null(column.type):
            at = declared.get_field_index(column.name)
            type_ = declared.field(at).type if at >= 0 else pa.string()
            table = table.set_column(place, column.name, table[column.name].cast(type_))
    return table


# ── the queries ───────────────────────────────────────────────────────────────────────────────────────────────────


def assign_stages(
    engine: Engine, features: pa.Table, value: pa.Table, model: LifecycleModel | None, spec: LifecycleSpec
) -> pa.Table:
    """The stage and sub-stage of each row of a snapshot: one query, one CASE for each.

    Parameters
    ----------
    features : a snapshot; any number of days
    value : customer_id, day and the value columns of the same rows
    model : the model in force; its rules and thresholds hold. None: the spec's rules and windows, nobody is a star,
        and no sub-stage that needs a cut

    Returns
    -------
    customer_id, day, stage, sub_stage, ordered by day and customer; exactly one row per row of `features`.

    Raises
    ------
    RuleError
        If a rule uses a column that neither table has.
    """
    if model is None:
        model = LifecycleModel(new_for=spec.new_for_days, churn_after=spec.churn_after_days)
    stages = model.stages or spec.rules()
    sub_stages = model.sub_stages or spec.sub_rules()
    names = {name.lower(): ("features", name) for name in features.column_names}
    names |= {name: ("value", name) for name in VALUE_COLUMNS if name in value.column_names}
    query = stage_query(stages, sub_stages, names)
    return engine.query(query.sql("duckdb"), model.parameters(), features=features, value=value)


def stage_query(
    stages: Sequence[StageRule], sub_stages: Sequence[SubStageRule], columns: Mapping[str, tuple[str, str]]
) -> exp.Select:
    """The query behind `assign_stages`.

    Parameters
    ----------
    columns : name in lower case to the table (features or value) and column it stands for
    """

    def condition(when: str, owner: str, parameters: Collection[str]) -> exp.Expr:
        tree = _predicate(when, owner, parameters, columns)

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
    customer_id, day, stage, sub_stage, stage_since, previous_stage, ordered by customer.
    """
    before = tables.LIFECYCLE_STAGES.empty() if yesterday is None else yesterday
    return engine.query(sql_of("ml", "lifecycle_spells"), today=today, yesterday=before)


# ── the weekly fit ────────────────────────────────────────────────────────────────────────────────────────────────


def train(
    facts: Facts,
    as_of: date,
    spec: LifecycleSpec,
    incumbent: LifecycleModel | None,
    *,
    value_model: ValueModel | None,
    value_spec: ValueSpec,
) -> Training:
    """Freeze the stages' thresholds on the snapshot of `as_of`, and decide whether they replace the incumbent's.

    Cuts that move every week would move customers who did nothing. So the incumbent stays as long as its stars are
    `spec.star_share` of the active customers (stars among them) within `spec.star_tolerance`, and its rules and windows
    are the spec's.

    Parameters
    ----------
    facts : cut at `as_of`, the last day of the training week
    value_model : the value model in force; None uses the baseline

    Returns
    -------
    ``model=None`` where fewer than `spec.min_customers` customers ever bought. The metric, `star_share_error`, is the
    distance of the share of stars from `spec.star_share` on this snapshot.
    """
    features = facts.snapshot_of(as_of)
    buyers = features.num_rows - features["recency_days"].null_count
    if buyers < spec.min_customers:
        reason = f"not enough customers: {buyers} have ever bought, {spec.min_customers} are asked for"
        return Training(model=None, decision="none" if incumbent is None else "incumbent", reason=reason, metric=METRIC)
    value = apply(features, value_model, value_spec, label="weekly")
    model = freeze(facts.engine, features, value, spec, value_spec, value_model)
    staged = assign_stages(facts.engine, features, value, model, spec)
    mine = _share_error(facts.engine, features, value, model, spec)
    theirs = None if incumbent is None else _share_error(facts.engine, features, value, incumbent, spec)

    stages = np.asarray(staged["stage"].to_pylist(), dtype=str)
    counts = {name: int((stages == name).sum()) for name in spec.stage_names()}
    ltv = np.asarray(value["ltv"].to_numpy(), dtype=float)
    candidates = ltv[star_candidates(facts.engine, features, value, model, spec)]
    metrics = {METRIC: mine, "customers": float(features.num_rows), "star_candidates": float(candidates.size)}
    metrics |= {f"share_{name}": count / features.num_rows for name, count in counts.items()}
    metrics |= {name: float(cut) for name in ("star_cut", *CUTS) if (cut := getattr(model, name)) is not None}
    if theirs is not None:
        metrics["incumbent_star_share_error"] = theirs
    decision, reason = _decide(model, mine, incumbent, theirs, spec)
    simple = {name: item for name, item in asdict(spec).items() if name not in ("stages", "sub_stages")}
    return Training(
        model=model,
        decision=decision,
        reason=reason,
        metric=METRIC,
        challenger_score=mine,
        incumbent_score=theirs,
        metrics=metrics,
        params={**simple, "as_of": str(as_of), "rules": "; ".join(f"{r.name}: {r.when}" for r in spec.rules())},
        figures={
            "stages": partial(stage_shares, counts, as_of),
            "ltv_of_active": partial(ltv_with_cut, candidates, model.star_cut, as_of),
        },
        example=_example(features),
    )


def freeze(
    engine: Engine,
    features: pa.Table,
    value: pa.Table,
    spec: LifecycleSpec,
    value_spec: ValueSpec,
    value_model: ValueModel | None = None,
) -> LifecycleModel:
    """Every threshold, read off one snapshot: first the star cut, then the cuts inside the stages it leaves."""
    asked = value_spec if value_model is None else value_model
    open_model = LifecycleModel(
        new_for=spec.new_for_days,
        churn_after=spec.churn_after_days,
        stages=spec.rules(),
        sub_stages=spec.sub_rules(),
        horizon_days=asked.horizon_days,
        annual_discount_rate=asked.annual_discount_rate,
    )
    ltv = np.asarray(value["ltv"].to_numpy(), dtype=float)
    candidates = star_candidates(engine, features, value, open_model, spec)
    model = replace(open_model, star_cut=cut_for_share(ltv[candidates], spec.star_share))
    staged = assign_stages(engine, features, value, model, spec)
    stages = np.asarray(staged["stage"].to_pylist(), dtype=str)
    active, new = stages == "active", stages == "new"

    def quantile(name: str, share: float) -> float | None:
        found = np.asarray(pc.cast(features[name], pa.float64()).to_numpy(), dtype=float)[active]
        found = found[~np.isnan(found)]
        return float(np.quantile(found, share)) if found.size else None

    return replace(
        model,
        new_ltv_cut=cut_for_share(ltv[new], TOP_SHARE),
        active_median_ltv=float(np.median(ltv[active])) if active.any() else None,
        active_median_orders=quantile("orders_90d", 0.5),
        active_high_orders=quantile("orders_90d", 0.75),
        active_high_spend=quantile("spend_90d", 0.75),
        active_high_basket=quantile("average_order_90d", 0.75),
    )


def star_candidates(
    engine: Engine, features: pa.Table, value: pa.Table, model: LifecycleModel, spec: LifecycleSpec
) -> np.ndarray:
    """Who would be a star if the cut were no hurdle: one boolean per row of `features`, ordered by day and customer.

    With the preset rules these are the active customers, stars among them. It asks the rules rather than a stage's
    name, so it holds for a project's own stages too.
    """
    rules = model.stages or spec.rules()
    starry = [rule.name for rule in rules if "star_cut" in {node.name for node in _nodes(rule.when)}]
    staged = assign_stages(engine, features, value, replace(model, star_cut=-1e300), spec)
    return np.isin(np.asarray(staged["stage"].to_pylist(), dtype=str), np.asarray(starry, dtype=str))


def cut_for_share(values: np.ndarray, share: float) -> float | None:
    """The value from which on a share of `values` nearest to `share` lies; None where having none at all is as near.

    Ties cannot be separated: where everybody is worth the same, nobody stands out.
    """
    found, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    if not found.size:
        return None
    above = np.cumsum(counts[::-1])[::-1] / counts.sum()
    best = int(np.argmin(np.abs(above - share)))
    return float(found[best]) if abs(above[best] - share) < share else None


def _nodes(when: str) -> list[exp.Placeholder]:
    return list(scalar(when, None, (*PARAMETERS, *CUTS)).find_all(exp.Placeholder))


def _share_error(
    engine: Engine, features: pa.Table, value: pa.Table, model: LifecycleModel, spec: LifecycleSpec
) -> float:
    """How far the share of stars among the candidates is from the share that is asked for."""
    candidates = star_candidates(engine, features, value, model, spec)
    if not candidates.any() or model.star_cut is None:
        return spec.star_share if candidates.any() else 0.0
    ltv = np.asarray(value["ltv"].to_numpy(), dtype=float)
    return float(abs((ltv[candidates] >= model.star_cut).mean() - spec.star_share))


def _decide(
    model: LifecycleModel, mine: float, incumbent: LifecycleModel | None, theirs: float | None, spec: LifecycleSpec
) -> tuple[Decision, str]:
    cut = "no cut separates stars" if model.star_cut is None else f"stars from {model.star_cut:,.2f} on"
    if incumbent is None or theirs is None:
        return "challenger", f"first fit: {cut}"
    if (incumbent.new_for, incumbent.churn_after) != (model.new_for, model.churn_after):
        return "challenger", f"the windows have changed; {cut}"
    if (incumbent.stages, incumbent.sub_stages) != (model.stages, model.sub_stages):
        return "challenger", f"the stage rules have changed; {cut}"
    off = f"the incumbent's share of stars is {theirs:.1%} of active customers off the {spec.star_share:.0%} asked for"
    if theirs > spec.star_tolerance and mine < theirs:
        return "challenger", f"{off}, more than {spec.star_tolerance:.0%}; {cut}"
    return "incumbent", f"{off}: kept, so that nobody moves without reason"


def _example(features: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = features.drop_columns(["customer_id", "day"]).slice(0, 5).to_pandas()
    return frame.astype({name: float for name in frame.columns if frame[name].dtype.kind in "iu"})


def stage_shares(counts: Mapping[str, int], as_of: date) -> Figure:
    """Customers in each stage."""
    from matplotlib.figure import Figure

    total = sum(counts.values()) or 1
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    names = list(counts)[::-1]
    bars = axes.barh(names, [counts[name] / total * 100 for name in names], color="#1b6ca8")
    axes.bar_label(bars, [f"{counts[name]:,}" for name in names], padding=3)
    axes.margins(x=0.12)
    axes.set(title=f"Lifecycle stages on {as_of}", xlabel=f"share of {sum(counts.values()):,} known customers (%)")
    return figure


def ltv_with_cut(ltv: np.ndarray, cut: float | None, as_of: date) -> Figure:
    """How LTV is spread over active customers, and where the stars begin."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    top = float(np.quantile(ltv, 0.995)) if ltv.size else 1.0
    axes.hist(np.minimum(ltv, top), bins=50, color="#9aa5ad")
    if cut is not None:
        axes.axvline(cut, color="#c0392b", label=f"stars from {cut:,.0f} on ({(ltv >= cut).mean():.1%})")
        axes.legend(frameon=False)
    axes.set(title=f"LTV of {ltv.size:,} active customers on {as_of}")
    axes.set(xlabel="LTV (currency; the top 0.5 % stand in the last bar)", ylabel="customers")
    return figure
