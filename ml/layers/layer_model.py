"""The clusters of one layer in one stage, and how near each customer is to them.

Belongs here: one fitted layer as plain numbers, distances, memberships, storing. Does not belong here: fitting one (see
`fitting`), all layers together (see `layers`), and evidence of earlier weeks (see `assignment`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from sqlglot import exp

import ml.layers.preparation as preparation
from ml import rules
from ml.expressions import evaluate
from ml.layers.identity import Event
from ml.layers.names import ALIKE, Difference
from ml.layers.reasons import drift_words, words
from ml.layers.specs import RENAMED, LayerRule, LayerSpec
from ml.layers.structure import Point
from ml.reasons import Reason

Kind = Literal["natural", "cut", "one", "fixed", "rules"]
CORE_DISTANCE = 0.32  # squared distance per dimension up to which a customer has no secondary cluster
BORDER_SD = 0.1  # in the feature's standard deviations; a quantile's border is about two of these wide on each side


@dataclass(frozen=True)
class LayerModel:
    """The clusters of one layer in one stage.

    Parameters
    ----------
    stage : str
        Name of the stage.
    layer : LayerSpec
        Settings of the layer.
    columns : tuple of Column
        The preparation; empty where the layer carries no information.
    centres : tuple of tuple of float
        K-means and mixtures: one row per cluster, in prepared units.
    spread : tuple of float
        K-means and mixtures: the clusters' common standard deviation per column.
    sharpness : float
        Effective dimensions per column; correlated columns repeat the same information.
    shares : tuple of float
        Natural clusters: share of each, 0 to 1.
    cuts : tuple of float
        Quantiles: inner borders of the first feature in prepared units, rising.
    rules : tuple of LayerRule
        Rules, in order; the cluster after them holds all others.
    letters, names : tuple of str
        Letter and name of each cluster. A single cluster is A, unless A was another one that is gone.
    letters_used : tuple of str
        Every letter ever given in this stage and layer, in order.
    since : tuple of str
        Of each letter the day of the fit that gave it, as ISO text; empty where fits have no days.
    sizes : tuple of int
        Customers of each cluster at the fit.
    evidence : tuple of tuple of Difference
        What distinguishes each cluster, largest difference first.
    kind : str
        ``natural``, ``cut`` (one that pays), ``one`` (a single cluster), ``fixed`` (by the project file) or ``rules``.
    reason : Reason
        Why it is of this kind.
    curve : tuple of Point
        The figures behind `kind`, per number of clusters.
    events : tuple of Event
        What became of the clusters in force before, and where these came from.
    drift : Reason, optional
        Why the clusters in force before no longer fit; None if they do.

    Examples
    --------
    Two clusters of a prepared number that is neither skewed nor scaled:

    >>> spend = preparation.Numeric("spend_28d", median=0.0, unskew="", low=-9, high=9, mean=0.0, std=1.0)
    >>> layer = LayerSpec("value", ("spend_28d",))
    >>> model = LayerModel("active", layer, (spend,), centres=((3.0,), (-3.0,)), spread=(1.0,), letters=("A", "B"))
    >>> customers = pa.table({"spend_28d": [2.5, -4.0, 0.1]})
    >>> model.assign(customers).tolist()
    [0, 1, 0]
    >>> model.memberships(customers).round(2).tolist()
    [[1.0, 0.0], [0.0, 1.0], [0.65, 0.35]]
    """

    stage: str
    layer: LayerSpec
    columns: tuple[preparation.Column, ...] = ()
    centres: tuple[tuple[float, ...], ...] = ()
    spread: tuple[float, ...] = ()
    sharpness: float = 1.0
    shares: tuple[float, ...] = ()
    cuts: tuple[float, ...] = ()
    rules: tuple[LayerRule, ...] = ()
    letters: tuple[str, ...] = ("A",)
    names: tuple[str, ...] = (ALIKE,)
    letters_used: tuple[str, ...] = ("A",)
    since: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    evidence: tuple[tuple[Difference, ...], ...] = ()
    kind: Kind = "one"
    reason: Reason = field(default_factory=Reason)
    curve: tuple[Point, ...] = ()
    events: tuple[Event, ...] = ()
    drift: Reason | None = None

    def distances(self, table: pa.Table) -> np.ndarray:
        """Squared distance of each row to each cluster, in within-cluster units.

        It is added up column by column, so that a row's result does not depend on the number of rows, as a matrix
        product does. For quantiles it is the distance to the quantile's nearest border, for rules 0 inside and infinite
        outside.

        Parameters
        ----------
        table : pyarrow.Table
            Inputs of n customers.

        Returns
        -------
        ndarray of shape (n, n_clusters)
            Squared distances.
        """
        if self.rules:
            inside = np.eye(len(self.letters), dtype=bool)[rule_clusters(self.rules, table)]
            return np.where(inside, 0.0, np.inf)
        if len(self.letters) == 1:
            return np.zeros((table.num_rows, 1))
        if self.cuts:
            return self._border_distances(self.columns[0].transform(table)[0])
        total = np.zeros((len(self.letters), table.num_rows))
        spread = iter(self.spread or (1.0,) * len(self.centres[0]))
        column_number = 0
        for column in self.columns:
            for prepared in column.transform(table):
                scaled = next(spread)
                prepared = prepared / scaled
                for number, centre in enumerate(self.centres):
                    deviation = prepared - centre[column_number] / scaled
                    deviation *= deviation
                    total[number] += deviation
                column_number += 1
        total *= self.sharpness
        return total.T

    def _border_distances(self, prepared: np.ndarray) -> np.ndarray:
        edges = np.array([-np.inf, *self.cuts, np.inf])
        inside = np.searchsorted(edges[1:-1], prepared, side="right")
        distances = np.empty((len(prepared), len(self.letters)))
        for number in range(len(self.letters)):
            deviation = np.maximum(np.maximum(edges[number] - prepared, prepared - edges[number + 1]), 0.0)
            distances[:, number] = (deviation / BORDER_SD) ** 2 + np.where(inside == number, 0.0, 1e-9)
        return distances

    @property
    def core_distance(self) -> float:
        """Squared distance up to which a customer belongs to its nearest cluster only."""
        return CORE_DISTANCE * self.sharpness * len(self.centres[0]) if self.centres else 0.0

    @property
    def share_offsets(self) -> np.ndarray:
        """Offsets to squared distances in choosing the likeliest cluster: −2 log of a natural cluster's share, or 0.

        Between two natural clusters the larger one is likelier; the borders of other clusters lie midway.
        """
        return -2 * np.log(np.maximum(self.shares, 1e-12)) if self.shares else np.zeros(len(self.letters))

    def clusters_at(self, distances: np.ndarray) -> np.ndarray:
        """Find each row's likeliest cluster, the first of equals.

        Parameters
        ----------
        distances : ndarray of shape (n, n_clusters)
            Squared distances.

        Returns
        -------
        ndarray of shape (n,)
            Cluster numbers.
        """
        result: np.ndarray = np.argmin(distances + self.share_offsets, axis=1)
        return result

    def assign(self, table: pa.Table) -> np.ndarray:
        """Find each row's likeliest cluster: the nearest one or, between natural clusters, also by their shares.

        Parameters
        ----------
        table : pyarrow.Table
            Inputs of n customers.

        Returns
        -------
        ndarray of shape (n,)
            Cluster numbers.
        """
        return self.clusters_at(self.distances(table))

    def memberships(self, table: pa.Table) -> np.ndarray:
        """Compute the weights of the likeliest cluster and of those above the threshold, 0 for the others.

        Parameters
        ----------
        table : pyarrow.Table
            Inputs of n customers.

        Returns
        -------
        ndarray of shape (n, n_clusters)
            Weights; each row adds up to 1.
        """
        distances = self.distances(table)
        return self.memberships_at(distances, self.clusters_at(distances))

    def memberships_at(self, distances: np.ndarray, clusters: np.ndarray) -> np.ndarray:
        """Compute the weights for given primary clusters, none of which is outweighed by another cluster.

        A secondary cluster counts if its weight is at least the layer's threshold, as a share of its own and the
        primary's weight together, unless the customer lies in the core of its nearest cluster.

        Parameters
        ----------
        distances : ndarray of shape (n, n_clusters)
            Squared distances.
        clusters : ndarray of shape (n,)
            Number of each row's primary cluster.

        Returns
        -------
        ndarray of shape (n, n_clusters)
            Weights; each row adds up to 1.
        """
        if distances.shape[1] == 1:
            return np.ones(distances.shape)
        if self.rules or self.cuts:
            one_hot: np.ndarray = np.eye(len(self.letters))[clusters]
            return one_hot
        result = np.zeros(distances.shape)
        rows = np.arange(len(clusters))
        result[rows, clusters] = 1.0
        nearest = np.argmin(distances, axis=1)
        smallest = distances[rows, nearest]
        margin = 2 * np.log(1 / self.layer.membership_threshold - 1) if self.layer.membership_threshold < 0.5 else 0.0
        n_within = (distances <= (smallest + margin)[:, None]).sum(axis=1)
        mixed = np.flatnonzero(((n_within > 1) & (smallest > self.core_distance)) | (nearest != clusters))
        if not len(mixed):
            return result
        weights = shares_of_rows(likelihoods(distances[mixed]))
        row = np.arange(len(mixed))
        primary, closest = clusters[mixed], nearest[mixed]
        weight_of_primary, weight_of_closest = weights[row, primary].copy(), weights[row, closest].copy()
        # A customer who stays in its cluster, though another one is nearer, keeps the greater weight there.
        weights[row, closest], weights[row, primary] = weight_of_primary, weight_of_closest
        keep = weights >= self.layer.membership_threshold * (weights + weight_of_closest[:, None])
        keep[row, primary] = True
        weights = np.where(keep, weights, 0.0)
        result[mixed] = shares_of_rows(weights)
        return result

    def to_json(self) -> dict[str, Any]:
        """The model as plain JSON values.

        Returns
        -------
        dict of str to object
            What `from_json` restores.
        """
        names = (
            "stage", "centres", "spread", "sharpness", "shares", "cuts", "letters", "names", "letters_used", "since",
            "sizes", "kind",
        )  # fmt: skip
        stored = {name: getattr(self, name) for name in names}
        return {
            **stored,
            "reason": words(self.reason),
            "reason_code": self.reason.code,
            "reason_parameters": dict(self.reason.parameters),
            "drift": drift_words(self.drift) if self.drift else "",
            "drift_reason": self.drift.stored() if self.drift else None,
            "layer": asdict(self.layer),
            "rules": [asdict(rule) for rule in self.rules],
            "columns": [preparation.to_json(column) for column in self.columns],
            "evidence": [[asdict(difference) for difference in differences] for differences in self.evidence],
            "curve": [asdict(point) for point in self.curve],
            "events": [asdict(event) for event in self.events],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Restore a model from JSON that this version or an earlier one stored.

        Parameters
        ----------
        stored : Mapping of str to object
            What `to_json` returned.

        Returns
        -------
        LayerModel
            The same model.
        """
        return cls(
            stage=stored["stage"],
            layer=layer_spec(stored["layer"]),
            columns=tuple(preparation.from_json(column) for column in stored["columns"]),
            centres=tuple(tuple(centre) for centre in stored["centres"]),
            rules=tuple(LayerRule(**rule) for rule in stored["rules"]),
            evidence=tuple(tuple(Difference(**fields) for fields in differences) for differences in stored["evidence"]),
            curve=tuple(Point.from_json(point) for point in stored["curve"]),
            events=tuple(Event.from_json(event) for event in stored["events"]),
            sharpness=stored["sharpness"],
            kind=stored["kind"],
            reason=_reason(stored),
            drift=_drift(stored),
            spread=tuple(stored["spread"]),
            shares=tuple(stored["shares"]),
            cuts=tuple(stored["cuts"]),
            letters=tuple(stored["letters"]),
            names=tuple(stored["names"]),
            letters_used=tuple(stored["letters_used"]),
            since=tuple(stored.get("since", ())),
            sizes=tuple(stored["sizes"]),
        )


def _reason(stored: Mapping[str, Any]) -> Reason:
    """Why a stored layer has its clusters; the sentence itself if it was stored before reasons had codes."""
    code = stored.get("reason_code")
    return Reason(code, stored["reason_parameters"]) if code else Reason(sentence=stored["reason"])


def _drift(stored: Mapping[str, Any]) -> Reason | None:
    if not stored["drift"]:
        return None
    reason = stored.get("drift_reason")
    return Reason.from_stored(reason) if reason else Reason(sentence=stored["drift"])


def likelihoods(distances: np.ndarray) -> np.ndarray:
    """exp(−½ squared distance) of each cluster, relative to the nearest."""
    result: np.ndarray = np.exp(-0.5 * (distances - distances.min(axis=1, keepdims=True)))
    return result


def shares_of_rows(values: np.ndarray) -> np.ndarray:
    """Scale each row to add up to 1; summed column by column, so that a row's result does not depend on the others."""
    result: np.ndarray = values / _row_sums(values)[:, None]
    return result


def rule_clusters(layer_rules: Sequence[LayerRule], table: pa.Table) -> np.ndarray:
    """Number of the first rule that holds for each row; the number of rules if none does."""
    if not table.num_rows:
        return np.zeros(0, dtype=int)
    columns = table.column_names
    case = exp.Case()
    for number, rule in enumerate(layer_rules):
        case = case.when(rules.parse_scalar(rule.when, columns), exp.Literal.number(number))
    case = case.else_(exp.Literal.number(len(layer_rules)))
    return np.asarray(evaluate(table, {"place": case})["place"].to_numpy()).astype(int)


def layer_spec(stored: Mapping[str, Any]) -> LayerSpec:
    """Restore a layer's settings, stored by this version or an earlier one."""
    fields = {RENAMED.get(name, name): value for name, value in stored.items()}
    fields["rules"] = tuple(LayerRule(**rule) for rule in fields.get("rules", ()))
    for name in ("features", "stages"):
        fields[name] = tuple(fields[name])
    return LayerSpec(**fields)


def _row_sums(values: np.ndarray) -> np.ndarray:
    sums = np.zeros(len(values))
    for number in range(values.shape[1]):
        sums += values[:, number]
    return sums
