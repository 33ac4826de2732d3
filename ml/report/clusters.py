"""The clusters of each stage and layer: what they are, why they exist, how certain that is, what became of last week's.

Belongs here: `cluster_lineage` of the week in force, in words. Does not belong here: the picture of a layer that
changed (see `lineage`), the value of customers of a whole string (see `micro_segments`), and any estimate.

A layer has its own block if it has several clusters, or if its clusters changed; the others share one line.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ml.layers.reasons import Code, asked_for, brief_words, from_row, without_figures
from ml.reasons import Reason
from ml.report.data import AtlasData, Row, stage_order, total
from ml.report.lineage import picture
from ml.report.words import MISSING, full_day, is_known, listed, number, plural, share, width

_ENDED = ("merged", "retired")
_NEW = ("first", "born", "split")
_CHANGES = ("born", "split", *_ENDED)
_ALL = 0.9995  # share of customers that is written as "all" rather than 100%


@dataclass(frozen=True)
class _Layer:
    """One layer of one stage: its rows of `cluster_lineage`, by letter."""

    stage: str
    name: str
    rows: tuple[Row, ...]

    @cached_property
    def clusters(self) -> list[Row]:
        """The clusters that customers are in."""
        return [row for row in self.rows if row["event"] not in _ENDED]

    @cached_property
    def ended(self) -> list[Row]:
        """The clusters of last week that are merged or retired."""
        return [row for row in self.rows if row["event"] in _ENDED]

    @property
    def has_changed(self) -> bool:
        """Whether the set of clusters differs from last week's; not for a first fit."""
        return any(row["event"] in _CHANGES for row in self.rows)

    @property
    def has_block(self) -> bool:
        """Whether the layer has its own block on the page."""
        return len(self.clusters) > 1 or self.has_changed

    @property
    def customers(self) -> float:
        return total(row["customers"] for row in self.clusters)

    @property
    def words(self) -> str:
        """Why it has its clusters, in the words of the fit."""
        return str(self.rows[0]["reason"] or "")

    @cached_property
    def reason(self) -> Reason:
        """Why it has its clusters; without a code in weeks of earlier versions."""
        return from_row(self.rows[0])

    @property
    def is_plain(self) -> bool:
        """Whether the clusters follow from the project file alone."""
        return self.reason.code in (Code.ASKED_FOR, Code.RULES)

    def __str__(self) -> str:
        return f"{self.stage} · {self.name}"


def clusters(data: AtlasData) -> Row | None:
    """The section in words; None where no layer has been fitted yet."""
    layers = _layers(data)
    if not layers:
        return None
    shown = [layer for layer in layers if layer.has_block]
    return {
        "summary": _summary(shown),
        "stages": [
            {
                "stage": stage,
                "layers": [_block(layer) for layer in shown if layer.stage == stage],
                "not_cut": _not_cut([layer for layer in layers if layer.stage == stage and not layer.has_block]),
            }
            for stage in dict.fromkeys(layer.stage for layer in layers)
        ],
    }


def _layers(data: AtlasData) -> list[_Layer]:
    """Layers by stage as elsewhere on the page, then in the order of micro-segment strings, then by name."""
    rows: dict[tuple[str, str], list[Row]] = {}
    for row in data.lineage:
        rows.setdefault((row["stage"], row["layer"]), []).append(row)
    order: dict[str, dict[str, None]] = {}
    for leaf in data.leaves:
        names = [part.partition(".")[0] for part in leaf["micro_segment"].split("/")[1:]]
        order.setdefault(leaf["stage"], {}).update(dict.fromkeys(names))
    layers = [_Layer(stage, name, tuple(some)) for (stage, name), some in rows.items()]

    def rank(layer: _Layer) -> int:
        names = list(order.get(layer.stage, ()))
        return names.index(layer.name) if layer.name in names else len(names)

    return sorted(layers, key=lambda layer: (stage_order(layer.stage), rank(layer), layer.name))


# ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────────


def _summary(shown: Sequence[_Layer]) -> list[str]:
    """How last week's clusters and today's correspond."""
    events = Counter(row["event"] for layer in shown for row in layer.rows)
    count = sum(len(layer.clusters) for layer in shown)
    if not count:
        return ["No layer divides any stage: each has a single cluster."]
    if events["first"] == count and not events.total() - count:
        return [f"All {plural(count, 'cluster')} are new: there is no earlier week to compare them with."]
    if events["continued"] == events.total():
        return [f"All {plural(count, 'cluster')} continue from last week.", *_borders(shown)]
    return [_what_changed(shown, events, count), *_borders(shown)]


def _what_changed(shown: Sequence[_Layer], events: Counter[str], count: int) -> str:
    parts = [
        _counted(events["continued"], "continues from last week", "continue from last week"),
        _counted(events["born"], "is new", "are new"),
        _counted(events["split"], "split off another", "split off others"),
        _counted(events["first"], "is from a layer’s first fit", "are from a layer’s first fit"),
    ]
    ended = [
        _counted(events["merged"], "merged into another", "merged into others"),
        _counted(events["retired"], "was retired", "were retired"),
    ]
    text = f"Of {plural(count, 'cluster')}, {listed([part for part in parts if part])}"
    if events["merged"] or events["retired"]:
        text += f"; of last week’s, {listed([part for part in ended if part])}"
    changed = [str(layer) for layer in shown if layer.has_changed]
    return f"{text}." + (f" Clusters changed in {listed(changed)}." if changed else "")


def _counted(count: int, one: str, many: str) -> str:
    return f"{number(count)} {one if count == 1 else many}" if count else ""


def _borders(shown: Sequence[_Layer]) -> list[str]:
    """The layers whose clusters continue but exchanged customers."""
    moved = []
    for layer in shown:
        same = [row for row in layer.rows if row["event"] == "continued" and row["customers_before"]]
        stayed = total((row["retained_share"] or 0.0) * row["customers_before"] for row in same)
        before = total(row["customers_before"] for row in same)
        if not layer.has_changed and before and stayed < _ALL * before:
            moved.append((stayed / before, layer))
    if not moved:
        return []
    lowest, worst = min(moved, key=lambda pair: (pair[0], str(pair[1])))
    layers = f"{plural(len(moved), 'layer')}, most in {worst}" if len(moved) > 1 else str(worst)
    return [f"Cluster boundaries moved in {layers}, where {share(lowest)} of customers stayed in their cluster."]


def _not_cut(layers: Sequence[_Layer]) -> str:
    """The layers with one cluster, grouped by the reason without each layer's own figures."""
    alike: dict[str, list[_Layer]] = {}
    for layer in layers:
        reason = without_figures(layer.reason) or layer.reason
        alike.setdefault(json.dumps(reason.stored(), sort_keys=True), []).append(layer)
    parts = []
    for same in alike.values():
        why = brief_words(same[0].reason)
        parts.append(", ".join(layer.name for layer in same) + (f" — {why}" if why else ""))
    return f"Not cut: {'; '.join(parts)}." if parts else ""


# ── one layer ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _block(layer: _Layer) -> Row:
    return {
        "layer": layer.name,
        "headline": _headline(layer),
        "reason": "" if layer.is_plain else layer.words[:1].upper() + layer.words[1:],
        "clusters": [
            {
                "letter": row["cluster"],
                "name": row["cluster_name"] or "",
                "customers": number(row["customers"]),
                "share": share(row["customers"], layer.customers),
                "width": width(row["customers"], layer.customers),
                "differences": [text for text in (row["differences"] or "").split("; ") if text],
                "since": _since(row),
                "is_new": row["event"] in _NEW,
                "fate": _fate(row),
            }
            for row in layer.clusters
        ],
        "ended": [_end(row) for row in layer.ended],
        "picture": picture(layer.rows) if layer.has_changed else None,
    }


def _headline(layer: _Layer) -> str:
    """The kind of clusters, and how certain they are."""
    count = len(layer.clusters)
    if count > 1 and layer.reason.code == Code.UNKNOWN_APART:
        return f"{_kind(layer, count - 1)}, and one of customers without known values"
    return _kind(layer, count)


def _kind(layer: _Layer, count: int) -> str:
    row = layer.rows[0]
    if count == 1:
        return "one cluster"
    if row["kind"] == "natural":
        stability = f" (bootstrap agreement {number(row['stability'], 2)})" if is_known(row["stability"]) else ""
        return f"{number(count)} natural clusters{stability}"
    if row["kind"] == "cut":
        gain = f", explains {share(row['gain'])} more of the variance" if is_known(row["gain"]) else ""
        return f"a cut into {number(count)}{gain}"
    if row["kind"] == "fixed" and layer.reason.code:
        asked = asked_for(layer.reason)
        if asked is not None and asked != count:
            return f"{number(count)} clusters, where the project file asks for {number(asked)}"
        return f"{number(count)} clusters, as set in the project file"
    if row["kind"] == "rules":
        return f"{number(count)} groups by the project file’s rules"
    return f"{number(count)} clusters"


def _since(row: Row) -> str:
    if row["event"] in _NEW:
        return "new this week"
    return full_day(row["since"]) if row["since"] else MISSING


def _fate(row: Row) -> str:
    """Where the customers of a cluster come from."""
    retained, inherited, other = row["retained_share"] or 0.0, row["inherited_share"] or 0.0, row["other"] or "another"
    if row["event"] == "first":
        return "first fit"
    if row["event"] == "split":
        return f"split off {other}, with {share(retained)} of its customers"
    if row["event"] == "born":
        return (
            f"new: at most {share(inherited)} came from any one cluster"
            if inherited
            else "new: from none of last week’s"
        )
    if row["event"] == "continued" and not row["customers_before"]:
        return "continued: it was empty"
    if row["event"] == "continued":
        stayed = "all" if retained >= _ALL else share(retained)
        return f"continued: {stayed} stayed" + (f", {share(1 - inherited)} joined" if inherited < _ALL else "")
    return str(row["event"])


def _end(row: Row) -> str:
    """What became of a cluster of last week that no longer exists."""
    retained, other = row["retained_share"] or 0.0, row["other"] or "another"
    if row["event"] == "merged":
        part = "all" if retained >= _ALL else share(retained)
        return f"{row['cluster']} merged into {other}, with {part} of its customers."
    if not row["customers_before"]:
        return f"{row['cluster']} was retired: no customers were left in it."
    customers = plural(row["customers_before"], "customer")
    part = f"at most {share(retained)} in any one cluster"
    return f"{row['cluster']} was retired: its {customers} are elsewhere now, {part}."
