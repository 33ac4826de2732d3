"""The clusters of each stage and layer: what they are, why they exist, how sure that is, what became of last week's.

Belongs here: `cluster_lineage` of the week in force, in words. Does not belong here: the picture of a layer that
changed (see `lineage`), what customers of a whole string are worth (see `micro_segments`), and any estimate.

A layer has a block of its own if it is cut, or if it was cut differently last week; the others share one line.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ml.reasons import Reason
from ml.report.data import AtlasData, Row, place, total
from ml.report.lineage import picture
from ml.report.words import MISSING, full_day, is_known, listed, number, plural, share, width
from ml.segments.reasons import Code, asked_for, brief_words, from_row, without_figures

_GONE = ("merged", "retired")
_NEW = ("first", "born", "split")
_CHANGES = ("born", "split", *_GONE)
_ALL = 0.9995  # share of customers from which "all" is said: what would be written as 100%


@dataclass(frozen=True)
class _Layer:
    """One layer of one stage: its rows of `cluster_lineage`, by letter."""

    stage: str
    name: str
    rows: tuple[Row, ...]

    @cached_property
    def clusters(self) -> list[Row]:
        """Those that customers are in."""
        return [row for row in self.rows if row["event"] not in _GONE]

    @cached_property
    def gone(self) -> list[Row]:
        return [row for row in self.rows if row["event"] in _GONE]

    @property
    def has_changed(self) -> bool:
        """Whether a cluster came or went. A first fit has nothing that it changed."""
        return any(row["event"] in _CHANGES for row in self.rows)

    @property
    def is_told(self) -> bool:
        return len(self.clusters) > 1 or self.has_changed

    @property
    def customers(self) -> float:
        return total(row["customers"] for row in self.clusters)

    @property
    def words(self) -> str:
        """Why it has its clusters, as it was said when they were made."""
        return str(self.rows[0]["reason"] or "")

    @cached_property
    def reason(self) -> Reason:
        """The same for programs; without a code in weeks that older versions wrote."""
        return from_row(self.rows[0])

    @property
    def is_plain(self) -> bool:
        """Whether the project file says it all, and the data had no say in it."""
        return self.reason.code in (Code.ASKED_FOR, Code.RULES)

    def __str__(self) -> str:
        return f"{self.stage} · {self.name}"


def clusters(facts: AtlasData) -> Row | None:
    """The section in words; None where no layer has been fitted yet."""
    layers = _layers(facts)
    if not layers:
        return None
    told = [layer for layer in layers if layer.is_told]
    return {
        "summary": _summary(told),
        "stages": [
            {
                "stage": stage,
                "layers": [_block(layer) for layer in told if layer.stage == stage],
                "not_cut": _not_cut([layer for layer in layers if layer.stage == stage and not layer.is_told]),
            }
            for stage in dict.fromkeys(layer.stage for layer in layers)
        ],
    }


def _layers(facts: AtlasData) -> list[_Layer]:
    """By stage as elsewhere on the page, inside of it as they stand in strings; others behind them by name."""
    rows: dict[tuple[str, str], list[Row]] = {}
    for row in facts.lineage:
        rows.setdefault((row["stage"], row["layer"]), []).append(row)
    order: dict[str, dict[str, None]] = {}
    for leaf in facts.leaves:
        names = [part.partition(".")[0] for part in leaf["micro_segment"].split("/")[1:]]
        order.setdefault(leaf["stage"], {}).update(dict.fromkeys(names))
    found = [_Layer(stage, name, tuple(some)) for (stage, name), some in rows.items()]

    def rank(layer: _Layer) -> int:
        names = list(order.get(layer.stage, ()))
        return names.index(layer.name) if layer.name in names else len(names)

    return sorted(found, key=lambda layer: (place(layer.stage), rank(layer), layer.name))


# ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────────


def _summary(told: Sequence[_Layer]) -> list[str]:
    """How last week's clusters and today's belong together."""
    events = Counter(row["event"] for layer in told for row in layer.rows)
    count = sum(len(layer.clusters) for layer in told)
    if not count:
        return ["No stage is cut by any layer: each has a single cluster."]
    if events["first"] == count and not events.total() - count:
        return [f"All {plural(count, 'cluster')} are new: there are none of an earlier week to compare them with."]
    if events["continued"] == events.total():
        return [f"All {plural(count, 'cluster')} are last week’s.", *_borders(told)]
    return [_what_changed(told, events, count), *_borders(told)]


def _what_changed(told: Sequence[_Layer], events: Counter[str], count: int) -> str:
    parts = [
        _counted(events["continued"], "is last week’s", "are last week’s"),
        _counted(events["born"], "was born", "were born"),
        _counted(events["split"], "split off another", "split off others"),
        _counted(events["first"], "is of a layer’s first fit", "are of a layer’s first fit"),
    ]
    gone = [
        _counted(events["merged"], "went into another", "went into others"),
        _counted(events["retired"], "is gone", "are gone"),
    ]
    said = f"Of {plural(count, 'cluster')} {listed([part for part in parts if part])}"
    if events["merged"] or events["retired"]:
        said += f"; of last week’s, {listed([part for part in gone if part])}"
    where = [str(layer) for layer in told if layer.has_changed]
    return f"{said}." + (f" Clusters came or went in {listed(where)}." if where else "")


def _counted(count: int, one: str, many: str) -> str:
    return f"{number(count)} {one if count == 1 else many}" if count else ""


def _borders(told: Sequence[_Layer]) -> list[str]:
    """Clusters that are last week's may still have other customers: where that is so."""
    moved = []
    for layer in told:
        same = [row for row in layer.rows if row["event"] == "continued" and row["customers_before"]]
        stayed = total((row["retained_share"] or 0.0) * row["customers_before"] for row in same)
        before = total(row["customers_before"] for row in same)
        if not layer.has_changed and before and stayed < _ALL * before:
            moved.append((stayed / before, layer))
    if not moved:
        return []
    least, worst = min(moved, key=lambda pair: (pair[0], str(pair[1])))
    most = f"most in {worst}, where" if len(moved) > 1 else "where"
    where = plural(len(moved), "layer") if len(moved) > 1 else str(worst)
    return [f"Borders moved in {where}, {most} {share(least)} of customers are in the cluster they were in."]


def _not_cut(layers: Sequence[_Layer]) -> str:
    """The layers with one cluster, by why that is so; figures that are each layer's own are left out."""
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
                "differences": [one for one in (row["differences"] or "").split("; ") if one],
                "since": _since(row),
                "is_new": row["event"] in _NEW,
                "fate": _fate(row),
            }
            for row in layer.clusters
        ],
        "gone": [_end(row) for row in layer.gone],
        "picture": picture(layer.rows) if layer.has_changed else None,
    }


def _headline(layer: _Layer) -> str:
    """Which kind of clusters these are, and how sure that is."""
    count = len(layer.clusters)
    if count > 1 and layer.reason.code == Code.UNKNOWN_APART:
        return f"{_kind(layer, count - 1)}, and one of those of whom nothing is known"
    return _kind(layer, count)


def _kind(layer: _Layer, count: int) -> str:
    row = layer.rows[0]
    if count == 1:
        return "one cluster"
    if row["kind"] == "natural":
        agree = f" — bootstrap samples agree to {number(row['stability'], 2)}" if is_known(row["stability"]) else ""
        return f"{number(count)} natural clusters{agree}"
    if row["kind"] == "cut":
        tells = f", tells {share(row['gain'])} more of what comes next" if is_known(row["gain"]) else ""
        return f"a cut in {number(count)}{tells}"
    if row["kind"] == "fixed" and layer.reason.code:
        asked = asked_for(layer.reason)
        if asked is not None and asked != count:
            return f"{number(count)} clusters, where the project file asks for {number(asked)}"
        return f"{number(count)} clusters, as the project file asks"
    if row["kind"] == "rules":
        return f"{number(count)} groups by the project file’s rules"
    return f"{number(count)} clusters"


def _since(row: Row) -> str:
    if row["event"] in _NEW:
        return "new this week"
    return full_day(row["since"]) if row["since"] else MISSING


def _fate(row: Row) -> str:
    """Where a cluster comes from."""
    kept, came, other = row["retained_share"] or 0.0, row["inherited_share"] or 0.0, row["other"] or "another"
    if row["event"] == "first":
        return "first fit: nothing before it"
    if row["event"] == "split":
        return f"split off {other}, with {share(kept)} of it"
    if row["event"] == "born":
        return f"born: {share(came)} at most came from any one cluster" if came else "born: from none of last week’s"
    if row["event"] == "continued" and not row["customers_before"]:
        return "continued: nobody was in it"
    if row["event"] == "continued":
        stayed = "all" if kept >= _ALL else share(kept)
        return f"continued: {stayed} stayed" + (f", {share(1 - came)} came from elsewhere" if came < _ALL else "")
    return str(row["event"])


def _end(row: Row) -> str:
    """What became of a cluster that is gone."""
    kept, other = row["retained_share"] or 0.0, row["other"] or "another"
    if row["event"] == "merged":
        return f"{row['cluster']} went into {other}: {'all' if kept >= _ALL else share(kept)} of it."
    if not row["customers_before"]:
        return f"{row['cluster']} is gone: nobody was left in it."
    had = plural(row["customers_before"], "customer")
    return f"{row['cluster']} is gone: its {had} are scattered, {share(kept)} of them at most in one cluster."
