"""The clusters of one layer in one stage, and how near each customer is to them.

Belongs here: one fitted layer as plain numbers, distances, weights, storing. Does not belong here: fitting one (see
`fitting`), all layers together (see `layers`), and what a customer's last weeks have to say (see `assignment`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from sqlglot import exp

import ml.segments.preparation as preparation
from ml import rules
from ml.expressions import evaluate
from ml.reasons import Reason
from ml.segments.identity import Event
from ml.segments.names import ALIKE, Difference
from ml.segments.reasons import drift_words, words
from ml.segments.specs import RENAMED, LayerRule, LayerSpec
from ml.segments.structure import Point

Kind = Literal["natural", "cut", "one", "fixed", "rules"]
CORE = 0.32  # squared distance per dimension: who is that near to a centre has no other cluster
BORDER_SD = 0.1  # a quantile's border is a strip of about two of these to each side, in the feature's own SD


@dataclass(frozen=True)
class LayerModel:
    """The clusters of one layer in one stage.

    `assign` places the rows of a table; `fitting` makes one of these from a table.

    Parameters
    ----------
    columns : the preparation; empty where the layer carries no information
    centres : k-means and mixtures: one row per cluster in prepared units
    spread : the clusters' common standard deviation per column
    sharpness : effective dimensions per column; correlated columns tell a thing several times
    shares : of each cluster, where they are natural
    cuts : quantiles: inner borders of the first feature in prepared units, rising
    rules : rules: (name, predicate), in order; the cluster after them is of the others
    letters, names : of the clusters; a single cluster is A, unless another one was that and is gone
    letters_used : every letter ever given here, in order
    since : of each letter the day of the fit that gave it, as ISO text; empty where fits have no days
    sizes : customers behind each cluster at the fit
    evidence : per cluster what sets it apart, greatest first
    kind, reason : whether the clusters are natural, a cut that pays, one, or what the project file fixed, and why
    curve : the figures behind `kind`, per number of clusters
    events : what became of the clusters in force before, and where these came from
    drift : why the clusters in force before no longer fit; None if they do
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
        """Squared distance of each row to each cluster in within-cluster units, shape (n, clusters).

        Added column by column: exactly the same whatever the number of rows, which a matrix product is not. For
        quantiles it is the distance to the quantile's nearest border, for rules 0 inside and infinite outside.
        """
        if self.rules:
            inside = np.eye(len(self.letters), dtype=bool)[rule_places(self.rules, table)]
            return np.where(inside, 0.0, np.inf)
        if len(self.letters) == 1:
            return np.zeros((table.num_rows, 1))
        if self.cuts:
            return self._beyond_borders(self.columns[0].transform(table)[0])
        total = np.zeros((len(self.letters), table.num_rows))
        spread = iter(self.spread or (1.0,) * len(self.centres[0]))
        place = 0
        for column in self.columns:
            for prepared in column.transform(table):
                scaled = next(spread)
                prepared = prepared / scaled
                for number, centre in enumerate(self.centres):
                    away = prepared - centre[place] / scaled
                    away *= away
                    total[number] += away
                place += 1
        total *= self.sharpness
        return total.T

    def _beyond_borders(self, prepared: np.ndarray) -> np.ndarray:
        edges = np.array([-np.inf, *self.cuts, np.inf])
        inside = np.searchsorted(edges[1:-1], prepared, side="right")
        found = np.empty((len(prepared), len(self.letters)))
        for number in range(len(self.letters)):
            away = np.maximum(np.maximum(edges[number] - prepared, prepared - edges[number + 1]), 0.0)
            found[:, number] = (away / BORDER_SD) ** 2 + np.where(inside == number, 0.0, 1e-9)
        return found

    @property
    def core(self) -> float:
        """Squared distance up to which a customer belongs to nothing but its nearest cluster."""
        return CORE * self.sharpness * len(self.centres[0]) if self.centres else 0.0

    def weights(self, table: pa.Table) -> np.ndarray:
        """Weight of each cluster for each row, before the threshold; rows add up to 1. Shape (n, clusters)."""
        return self.weights_at(self.distances(table))

    def weights_at(self, distances: np.ndarray) -> np.ndarray:
        """exp(−½ squared distance), made to add up to 1; quantiles and rules are all or nothing."""
        if self.rules or self.cuts:
            result: np.ndarray = np.eye(len(self.letters))[np.argmin(distances, axis=1)]
            return result
        return shares_of_rows(likelihoods(distances))

    @property
    def odds(self) -> np.ndarray:
        """What is added to squared distances before the least decides: −2 log of a natural cluster's share, or 0.

        Between two natural clusters the larger one is the likelier; the borders of other clusters lie midway.
        """
        return -2 * np.log(np.maximum(self.shares, 1e-12)) if self.shares else np.zeros(len(self.letters))

    def places_at(self, distances: np.ndarray) -> np.ndarray:
        """The place of each row's likeliest cluster, the first of equals."""
        result: np.ndarray = np.argmin(distances + self.odds, axis=1)
        return result

    def assign(self, table: pa.Table) -> np.ndarray:
        """The place of each row's likeliest cluster: the nearest one, between natural clusters also by their size."""
        return self.places_at(self.distances(table))

    def memberships(self, table: pa.Table) -> np.ndarray:
        """Weights that count: the likeliest cluster's and those above the threshold, made to add up to 1; else 0."""
        distances = self.distances(table)
        return self.memberships_at(distances, self.places_at(distances))

    def memberships_at(self, distances: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Weights that count, given each row's primary cluster, which is never outweighed by another.

        A further cluster counts if its weight is at least the layer's threshold, as a share of its own and the
        primary's together, unless the customer lies in the core of its nearest.
        """
        if distances.shape[1] == 1:
            return np.ones(distances.shape)
        if self.rules or self.cuts:
            answer: np.ndarray = np.eye(len(self.letters))[place]
            return answer
        result = np.zeros(distances.shape)
        rows = np.arange(len(place))
        result[rows, place] = 1.0
        near = np.argmin(distances, axis=1)
        best = distances[rows, near]
        reach = 2 * np.log(1 / self.layer.membership_threshold - 1) if self.layer.membership_threshold < 0.5 else 0.0
        within = (distances <= (best + reach)[:, None]).sum(axis=1)
        mixed = np.flatnonzero(((within > 1) & (best > self.core)) | (near != place))
        if not len(mixed):
            return result
        weights = shares_of_rows(likelihoods(distances[mixed]))
        some = np.arange(len(mixed))
        first, top = place[mixed], near[mixed]
        mine, most = weights[some, first].copy(), weights[some, top].copy()
        weights[some, top], weights[some, first] = mine, most  # who stays where it was keeps the greater weight
        keep = weights >= self.layer.membership_threshold * (weights + most[:, None])
        keep[some, first] = True
        weights = np.where(keep, weights, 0.0)
        result[mixed] = shares_of_rows(weights)
        return result

    def to_json(self) -> dict[str, Any]:
        plain = (
            "stage", "centres", "spread", "sharpness", "shares", "cuts", "letters", "names", "letters_used", "since",
            "sizes", "kind",
        )  # fmt: skip
        stored = {name: getattr(self, name) for name in plain}
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
            "evidence": [[asdict(one) for one in found] for found in self.evidence],
            "curve": [asdict(point) for point in self.curve],
            "events": [asdict(event) for event in self.events],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        return cls(
            stage=stored["stage"],
            layer=layer_spec(stored["layer"]),
            columns=tuple(preparation.from_json(column) for column in stored["columns"]),
            centres=tuple(tuple(centre) for centre in stored["centres"]),
            rules=tuple(LayerRule(**rule) for rule in stored["rules"]),
            evidence=tuple(tuple(Difference(**one) for one in found) for found in stored["evidence"]),
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
    """Why a stored layer has its clusters; the words of one that was stored before reasons had codes."""
    code = stored.get("reason_code")
    return Reason(code, stored["reason_parameters"]) if code else Reason(text=stored["reason"])


def _drift(stored: Mapping[str, Any]) -> Reason | None:
    if not stored["drift"]:
        return None
    coded = stored.get("drift_reason")
    return Reason.from_stored(coded) if coded else Reason(text=stored["drift"])


def likelihoods(distances: np.ndarray) -> np.ndarray:
    """exp(−½ squared distance) of each cluster, over that of the nearest."""
    result: np.ndarray = np.exp(-0.5 * (distances - distances.min(axis=1, keepdims=True)))
    return result


def shares_of_rows(values: np.ndarray) -> np.ndarray:
    """Each row made to add up to 1; summed column by column, so that a row's result is its own."""
    result: np.ndarray = values / _row_sums(values)[:, None]
    return result


def rule_places(layer_rules: Sequence[LayerRule], table: pa.Table) -> np.ndarray:
    """The place of the first rule that holds for each row; after the last if none does."""
    if not table.num_rows:
        return np.zeros(0, dtype=int)
    columns = table.column_names
    case = exp.Case()
    for place, rule in enumerate(layer_rules):
        case = case.when(rules.parse_scalar(rule.when, columns), exp.Literal.number(place))
    case = case.else_(exp.Literal.number(len(layer_rules)))
    return np.asarray(evaluate(table, {"place": case})["place"].to_numpy()).astype(int)


def layer_spec(stored: Mapping[str, Any]) -> LayerSpec:
    """A layer's settings as they were stored."""
    fields = {RENAMED.get(name, name): value for name, value in stored.items()}
    fields["rules"] = tuple(LayerRule(**rule) for rule in fields.get("rules", ()))
    for name in ("features", "stages"):
        fields[name] = tuple(fields[name])
    return LayerSpec(**fields)


def _row_sums(values: np.ndarray) -> np.ndarray:
    total = np.zeros(len(values))
    for number in range(values.shape[1]):
        total += values[:, number]
    return total
