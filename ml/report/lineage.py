"""The picture of a layer whose clusters changed: last week's on the left, now on the right.

Belongs here: which customers of a cluster flow where, as far as `cluster_lineage` tells it, and where the columns
stand. Does not belong here: how a ribbon is drawn (see `ribbons`), and the words of the section (see `clusters`).

A cluster is told one neighbour: the one it continues, split off or went into. What its bar holds beyond that ribbon
came from, or went to, others in smaller parts, and is left without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ml.report.data import Row
from ml.report.ribbons import STAYS, Flow, end, px, ribbons, slots
from ml.report.words import number, plural, share

_BARS, _SLOT = 150.0, 36.0  # pixels: all customers of the layer together, the least room of a cluster
_LEFT, _RIGHT = (112.0, 120.0), (300.0, 308.0)
_LETTERS = 40  # of a label that fit beside the picture
_REST = 0.02  # share of all customers without a ribbon that is worth a remark


def picture(rows: Sequence[Mapping[str, object]]) -> Row | None:
    """The picture's parts in pixels; None where nothing was there before.

    Parameters
    ----------
    rows : of `cluster_lineage`, of one stage and layer, in the order in which clusters stand
    """
    before = {str(row["cluster"]): _known(row["customers_before"]) for row in rows if _known(row["customers_before"])}
    now = {str(row["cluster"]): _known(row["customers"]) for row in rows if _known(row["customers"])}
    flows = _flows(rows, before, now)
    if not flows:
        return None
    everybody = max(sum(before.values()), sum(now.values()))
    letters = [str(row["cluster"]) for row in rows if str(row["cluster"]) in before or str(row["cluster"]) in now]
    names = {str(row["cluster"]): _clipped(f"{row['cluster']} · {row['cluster_name']}") for row in rows}
    places = slots(letters, (before, now), _BARS / everybody, _SLOT)
    followed = sum(flow.count for flow in flows)
    return {
        "viewbox": f"0 0 610 {px(places.height)}",
        "ribbons": ribbons(flows, places, _LEFT[1], _RIGHT[0]),
        "left": [end(one, before[one], _figures(one, before), places) for one in letters if one in before],
        "right": [end(names[one], now[one], _figures(one, now), places, one) for one in letters if one in now],
        "has_moved": any(flow.kind != STAYS for flow in flows),
        "has_rest": everybody - followed > _REST * everybody,
    }


def _flows(rows: Sequence[Mapping[str, object]], before: Mapping[str, float], now: Mapping[str, float]) -> list[Flow]:
    """One flow per pair: a cluster that split off one that is gone into it is told from both sides."""
    counts: dict[tuple[str, str], float] = {}
    for row in rows:
        cluster, other = str(row["cluster"]), str(row["other"] or "")
        pair = {"continued": (cluster, cluster), "split": (other, cluster), "merged": (cluster, other)}.get(
            str(row["event"])
        )
        if pair is None or pair[0] not in before or pair[1] not in now:
            continue
        if row["event"] == "merged":
            counts[pair] = _known(row["retained_share"]) * before[cluster]
        else:
            counts[pair] = _known(row["inherited_share"]) * now[cluster]
    return [
        Flow(start, to, STAYS if start == to else "g", count, _said(start, to, count))
        for (start, to), count in counts.items()
        if count > 0
    ]


def _said(start: str, to: str, count: float) -> str:
    return f"{f'{start} stays' if start == to else f'{start} to {to}'}: {plural(round(count), 'customer')}"


def _figures(cluster: str, sizes: Mapping[str, float]) -> str:
    return f"{number(sizes[cluster])} · {share(sizes[cluster], sum(sizes.values()))}"


def _known(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _clipped(text: str) -> str:
    return text if len(text) <= _LETTERS else text[: _LETTERS - 1].rstrip(" ,·") + "…"
