"""What a project may say about its segments: layers, audiences, and the limits of a fit.

Belongs here: the typed settings, their defaults and their check against the columns there are. Does not belong here:
how a layer is fitted (see `layers`) or what an audience's rule selects (see `audiences`).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from ml import tables

VALUE_COLUMNS = ("ltv", "p_alive", "expected_orders", "expected_spend")
STAGE_COLUMNS = ("stage", "sub_stage")
DERIVED = {
    # From −1 (stopped spending) over 0 (as before) to 1 (had not spent before); missing without spend in either window.
    "spend_trend_28d": (
        "CASE WHEN GREATEST(spend_28d, 0) + GREATEST(spend_prev_28d, 0) > 0 "
        "THEN (GREATEST(spend_28d, 0) - GREATEST(spend_prev_28d, 0)) "
        "/ (GREATEST(spend_28d, 0) + GREATEST(spend_prev_28d, 0)) END"
    ),
    # 1 while the silence is no longer than twice the customer's own mean gap, then growing; a plain recency would swing
    # with every purchase of a regular customer. Missing before the second purchase day.
    "overdue": (
        "CASE WHEN mean_gap_days IS NOT NULL THEN GREATEST(recency_days / (2 * GREATEST(mean_gap_days, 1)), 1) END"
    ),
}


@dataclass(frozen=True)
class LayerRule:
    """One group of a layer that is cut by rules: a name, and the SQL predicate that puts a customer into it."""

    name: str
    when: str


# What a layer's settings were called before: project files and stored models that use the old names are read.
RENAMED = {"leaving": "weekly_switch_probability"}


@dataclass(frozen=True)
class LayerSpec:
    """A named set of features that share one context, cut separately inside each stage.

    Parameters
    ----------
    name : as it stands in the string, for example ``value`` in ``active/value.B``
    features : columns of `layer_inputs`; ``share_*`` stands for every column that begins so; strings become one-hot
    context : what it is about, in words
    stages : the stages it applies to; all, if empty
    method : ``kmeans``, ``quantiles`` of the first feature, or ordered ``rules``
    k : how many clusters or quantiles, at most; ``auto`` asks the data: natural clusters where there are some, else a
        cut where it pays out of time, else one cluster
    k_max : how many clusters ``auto`` may find
    rules : for ``rules``: the first predicate that holds wins; who fits none is in a last cluster, "others"
    membership_threshold : weight, as a share of its own and the primary's, from which a further cluster counts as a
        secondary one
    weekly_switch_probability : chance a week with which a customer is taken to leave its cluster: the smaller, the more
        firmly somebody between two clusters stays where it was; .5 damps nothing
    """

    name: str
    features: tuple[str, ...] = ()
    context: str = ""
    stages: tuple[str, ...] = ()
    method: Literal["kmeans", "quantiles", "rules"] = "kmeans"
    k: int | Literal["auto"] = "auto"
    k_max: int = 6
    rules: tuple[LayerRule, ...] = ()
    membership_threshold: float = 0.15
    weekly_switch_probability: float = 0.008

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise ValueError(f"layer name {self.name!r}: letters, digits, - and _ only, for it stands in strings")
        for name in ("k", "k_max"):
            if getattr(self, name) != "auto" and getattr(self, name) < 1:
                raise ValueError(f"{name} of layer {self.name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.membership_threshold <= 1:
            raise ValueError(f"membership_threshold of layer {self.name} must lie above 0 and at most at 1")
        if not 0 < self.weekly_switch_probability <= 0.5:
            raise ValueError(f"weekly_switch_probability of layer {self.name} must lie above 0 and at most at 0.5")
        if self.method == "rules":
            names = [rule.name for rule in self.rules]
            if not names:
                raise ValueError(f"layer {self.name} is cut by rules and has none: list them as {{name, when}}")
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(
                    f"layer {self.name} has more than one rule named {', '.join(twice)}: each is a cluster"
                )
        elif self.rules:
            raise ValueError(f"layer {self.name} has rules, which {self.method} do not look at: set method to rules")
        elif self.method == "quantiles" and not self.features:
            raise ValueError(f"layer {self.name} has no feature to cut by: list one")

    @property
    def most(self) -> int:
        """Clusters at most."""
        return self.k_max if isinstance(self.k, str) else self.k

    def applies_to(self, stage: str) -> bool:
        return not self.stages or stage in self.stages

    def present(self, columns: Collection[str]) -> tuple[str, ...]:
        """The layer's features among `columns`, patterns spelt out, in order and once each."""
        found: dict[str, None] = {}
        for feature in self.features:
            if "*" in feature:
                matched = (name for name in columns if fnmatchcase(name, feature))
                found.update(dict.fromkeys(name for name in matched if name not in ("customer_id", "day")))
            elif feature in columns:
                found[feature] = None
        return tuple(found)


@dataclass(frozen=True)
class AudienceSpec:
    """A rule segment: everybody for whom the SQL predicate holds. ``$median_<column>`` is the day's median."""

    name: str
    when: str
    description: str = ""


# The most telling layer first: what is learnt of a group is shrunk up its string's prefixes. Five steps of expected
# value tell more of the next month's spend than clusters of spend, orders and value (`tests.benchmarks.homogeneity`).
# What changes in value is news, so it holds nobody back for long. A month's trend is no trait: it turns by itself, and
# is left to sub-stages and audiences (`tests.benchmarks.flicker`).
DEFAULT_LAYERS = (
    LayerSpec("value", ("ltv",), "what they are worth", k=5, weekly_switch_probability=0.3),
    LayerSpec("engagement", ("purchase_days_28d", "mean_gap_days", "overdue"), "the rhythm they buy in"),
    LayerSpec("predicted", ("p_alive",), "whether they will come back", k_max=3),
    LayerSpec("promotion", ("discount_share_90d", "exposures_90d", "events_90d"), "how they take to offers"),
    LayerSpec(
        "affinity",
        ("categories_90d", "top_category_share_90d", "top_category_90d", "share_*"),
        "what they buy",
    ),
)

DEFAULT_AUDIENCES = (
    AudienceSpec(
        "frequent_buyers",
        "purchase_days_28d >= 4 AND purchase_days_28d >= 2 * $median_purchase_days_28d",
        "buy at least weekly, and twice as often as the median customer",
    ),
    AudienceSpec(
        "big_baskets",
        "orders_90d >= 2 AND average_order_90d >= 2 * $median_average_order_90d",
        "spend at least twice the median per order",
    ),
    AudienceSpec(
        "discount_lovers",
        "orders_90d >= 2 AND discount_share_90d >= 0.1 AND discount_share_90d >= 1.5 * $median_discount_share_90d",
        "buy much more at a discount than the median customer",
    ),
    AudienceSpec(
        "coupon_responders",
        "exposures_90d > 0 AND redemptions_90d > 0",
        "were reached by an action and redeemed a coupon in the last 90 days",
    ),
    AudienceSpec(
        "cart_abandoners",
        "days_since_cart <= 28 AND COALESCE(recency_days > days_since_cart, TRUE)",
        "filled a cart in the last 28 days and have not bought since",
    ),
    AudienceSpec(
        "top_spenders_*",
        "share_* >= 0.05 AND share_* * spend_90d >= 4 * $median_share_* * $median_spend_90d",
        "spend at least four times the usual on *",
    ),
    AudienceSpec(
        "fading",
        "orders_prev_28d >= 2 AND spend_prev_28d > 0 AND spend_28d < 0.5 * spend_prev_28d",
        "spent less than half of what they spent in the 28 days before",
    ),
    AudienceSpec(
        "lapsed_high_value",
        "stage = 'churn' AND spend >= 2 * $median_spend",
        "gone, and had spent at least twice the median",
    ),
)


@dataclass(frozen=True)
class SegmentSpec:
    """How micro-segments are cut.

    Parameters
    ----------
    layers : in the order in which they stand in the string
    min_cluster_customers : a cluster of fewer customers is not made
    max_rows : customers a fit looks at, at most; a seeded sample beyond
    margin : share by which a refit must be better, and by more than chance, before it replaces the clusters in force
    warm_up_days : days of history before the first fit: the longest window of a feature. While windows fill, everybody
        changes, and clusters fitted then would soon be nobody's
    outcome_window_days : the window of the outcome that judges a refit
    seed : of the sample and of the fits
    """

    layers: tuple[LayerSpec, ...] = DEFAULT_LAYERS
    min_cluster_customers: int = 30
    max_rows: int = 100_000
    margin: float = 0.02
    warm_up_days: int = 90
    outcome_window_days: int = 28
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("min_cluster_customers", "max_rows", "outcome_window_days"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.warm_up_days < 0:
            raise ValueError(f"warm_up_days is {self.warm_up_days}; it must be at least 0")


def input_columns(features: Collection[str] = ()) -> tuple[str, ...]:
    """Every column a layer or audience may use, given the project's own feature columns (shares, attributes)."""
    own = [*tables.CUSTOMER_FEATURES.names[1:], *features, *DERIVED, *VALUE_COLUMNS, *STAGE_COLUMNS]
    return tuple(dict.fromkeys(name for name in own if name not in ("customer_id", "day")))


def is_attribute(feature: str) -> bool:
    """Whether a layer's feature is an attribute of the customers table: nothing that is computed for every project."""
    return feature not in input_columns() and not feature.startswith("share_")


def unknown_features(spec: SegmentSpec, columns: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of layer and feature that `columns` lacks; a pattern such as ``share_*`` is never unknown.

    `columns` : the project's feature columns (`ml.features.features_table(spec).names`); value, stage and derived
    columns are known anyway.
    """
    known = set(input_columns(columns))
    return tuple(
        (layer.name, feature)
        for layer in spec.layers
        for feature in layer.features
        if "*" not in feature and feature not in known
    )
