"""A project's settings of its segments: layers, audiences, and the limits of a fit.

Belongs here: the typed settings, their defaults, and checking them against the existing columns. Does not belong here:
how a layer is fitted (see `fitting`), or whom an audience's rule selects (see `audiences`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
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
    """One group of a layer that is cut by rules.

    Parameters
    ----------
    name : str
        Name of the group.
    when : str
        SQL predicate over `layer_inputs` that puts a customer into it.

    Examples
    --------
    >>> LayerRule("big spenders", "spend_90d >= 500").name
    'big spenders'
    """

    name: str
    when: str


# What a layer's settings were called before: project files and stored models that use the old names are read.
RENAMED = {"leaving": "weekly_switch_probability"}


@dataclass(frozen=True)
class LayerSpec:
    """A named set of features that share one context, cut separately inside each stage.

    Parameters
    ----------
    name : str
        As strings contain it, for example ``value`` in ``active/value.B``.
    features : tuple of str
        Columns of `layer_inputs`; ``share_*`` stands for every column that begins so; strings are one-hot encoded.
    context : str
        What the layer is about, in words.
    stages : tuple of str
        The stages it applies to; all, if empty.
    method : str
        ``kmeans``, ``quantiles`` of the first feature, or ordered ``rules``.
    k : int or str
        Largest number of clusters or quantiles. ``auto`` decides by the data: natural clusters if there are any, else a
        cut if one pays out of time, else one cluster.
    k_max : int
        Largest number of clusters that ``auto`` may choose.
    rules : tuple of LayerRule
        For ``rules``: the first predicate that holds decides; customers for whom none holds are in a last cluster,
        "others".
    membership_threshold : float
        Weight from which a further cluster counts as a secondary one, as a share of its own and the primary's, 0 to 1.
    weekly_switch_probability : float
        Assumed probability that a customer leaves its cluster within a week, 0 to 0.5: the smaller, the more firmly a
        customer between two clusters stays in the earlier one. At 0.5 nothing is damped.

    Raises
    ------
    ValueError
        If the settings contradict each other or lie outside their range.

    Examples
    --------
    >>> layer = LayerSpec("value", ("ltv", "share_*"), k=5, stages=("active",))
    >>> layer.applies_to("churn"), layer.present(["ltv", "orders", "share_fuel", "share_deli"])
    (False, ('ltv', 'share_fuel', 'share_deli'))
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
            raise ValueError(f"layer name {self.name!r}: letters, digits, - and _ only, because it is part of strings")
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
            if duplicates := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(
                    f"layer {self.name} has more than one rule named {', '.join(duplicates)}: each is a cluster"
                )
        elif self.rules:
            raise ValueError(f"layer {self.name} has rules, which {self.method} does not use: set method to rules")
        elif self.method == "quantiles" and not self.features:
            raise ValueError(f"layer {self.name} has no feature to cut by: list one")

    @property
    def max_clusters(self) -> int:
        """Largest number of clusters."""
        return self.k_max if isinstance(self.k, str) else self.k

    def applies_to(self, stage: str) -> bool:
        """Whether the layer is cut in a stage.

        Parameters
        ----------
        stage : str
            Name of the stage.

        Returns
        -------
        bool
            True for every stage if none is listed.
        """
        return not self.stages or stage in self.stages

    def present(self, columns: Collection[str]) -> tuple[str, ...]:
        """The layer's features among some columns, with patterns expanded, in order and once each.

        Parameters
        ----------
        columns : Collection of str
            Names of existing columns.

        Returns
        -------
        tuple of str
            Names of columns.
        """
        names: dict[str, None] = {}
        for feature in self.features:
            if "*" in feature:
                matched = (name for name in columns if fnmatchcase(name, feature))
                names.update(dict.fromkeys(name for name in matched if name not in ("customer_id", "day")))
            elif feature in columns:
                names[feature] = None
        return tuple(names)


# The most predictive layer comes first, because group means are shrunk along the string's prefixes. Five steps of
# expected value explain more of the next month's spend than clusters of spend, orders and value do
# (`tests.benchmarks.homogeneity`). A change in value is news, so that layer is hardly damped. A month's trend is not a
# trait: it reverses by itself, and is left to sub-stages and audiences (`tests.benchmarks.moves`).
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


# Layers of what a business knows about its customers besides their behaviour, in the order of the string.
CONTEXTS = {
    "technology": "the devices they use",
    "geographic": "where they live",
    "demographic": "who they are",
    "psychographic": "what they care about",
}


# What customers usually use, of the columns of events that a business maps; what they used last is no trait.
TECHNOLOGY = {"device": "top_device_90d", "os": "top_os_90d", "browser": "top_browser_90d"}


def default_layers(features: Mapping[str, Sequence[str]]) -> tuple[LayerSpec, ...]:
    """List the layers of a project that declares none of its own.

    Parameters
    ----------
    features : Mapping of str to sequence of str
        Names of the project's features that belong to each of `CONTEXTS`; without a feature there is no layer.

    Returns
    -------
    tuple of LayerSpec
        `DEFAULT_LAYERS`, then a layer for each context that has features, in the order of `CONTEXTS`.

    Examples
    --------
    >>> [layer.name for layer in default_layers({"geographic": ["city"], "technology": ["device"]})][5:]
    ['technology', 'geographic']
    """
    known = {context: tuple(features.get(context, ())) for context in CONTEXTS}
    return (*DEFAULT_LAYERS, *(LayerSpec(name, known[name], CONTEXTS[name]) for name in CONTEXTS if known[name]))


@dataclass(frozen=True)
class SegmentSpec:
    """How micro-segments are cut.

    Parameters
    ----------
    layers : tuple of LayerSpec
        In the order of the string.
    min_cluster_customers : int
        Smallest number of customers in a cluster.
    max_rows : int
        Largest number of customers in a fit; of more, a seeded sample.
    margin : float
        Share by which a refit must be better, and significantly so, before it replaces the clusters in force.
    warm_up_days : int
        Days of history before the first fit: the longest window of a feature. While windows fill, every customer
        changes, and clusters fitted then would soon be empty.
    outcome_window_days : int
        Days of the outcome that decides on a refit.
    seed : int
        Seed of the sample and of the fits.

    Raises
    ------
    ValueError
        If a number lies outside its range.

    Examples
    --------
    >>> spec = SegmentSpec(min_cluster_customers=50)
    >>> [layer.name for layer in spec.layers]
    ['value', 'engagement', 'predicted', 'promotion', 'affinity']
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
    """Every column that a layer or an audience may use.

    Parameters
    ----------
    features : Collection of str
        The project's own feature columns (shares, attributes).

    Returns
    -------
    tuple of str
        Names of columns, without customer_id and day.

    Examples
    --------
    >>> [name for name in input_columns(("share_fuel", "age")) if name in ("ltv", "share_fuel", "age", "day")]
    ['share_fuel', 'age', 'ltv']
    """
    names = [*tables.CUSTOMER_FEATURES.names[1:], *features, *DERIVED, *VALUE_COLUMNS, *STAGE_COLUMNS]
    return tuple(dict.fromkeys(name for name in names if name not in ("customer_id", "day")))


def is_attribute(feature: str) -> bool:
    """Whether a layer's feature is an attribute of the customers table: not computed for every project."""
    return feature not in input_columns() and not feature.startswith("share_")


def unknown_features(spec: SegmentSpec, columns: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Find features that a project's layers name and that do not exist; a pattern such as ``share_*`` is never unknown.

    Parameters
    ----------
    spec : SegmentSpec
        Layers of the project.
    columns : Collection of str
        The project's feature columns; value, stage and derived columns always exist.

    Returns
    -------
    tuple of tuple of str
        Pairs of layer and feature.

    Examples
    --------
    >>> unknown_features(SegmentSpec((LayerSpec("style", ("ltv", "share_*", "hobby")),)), ("age",))
    (('style', 'hobby'),)
    """
    known = set(input_columns(columns))
    return tuple(
        (layer.name, feature)
        for layer in spec.layers
        for feature in layer.features
        if "*" not in feature and feature not in known
    )
