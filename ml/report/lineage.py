"""The picture of a layer whose clusters changed: last week's on the left, now on the right.

Belongs here: the flows of customers that `cluster_lineage` records, and the position of columns. Does not belong here:
how a ribbon is drawn (see `ribbons`), and the words of the section (see `clusters`).

Each cluster has one recorded neighbour: the one it continues, split off or merged into. Customers beyond that ribbon
came from, or went to, other clusters in smaller parts, and have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ml.report.data import Row
from ml.report.ribbons import STAYS, Flow, end, px, ribbons, slots
from ml.report.words import number, plural, share

_BARS, _SLOT = 150.0, 36.0  # pixels: all customers of the layer together, the least room of a cluster
_LEFT, _RIGHT = (112.0, 120.0), (300.0, 308.0)
_MAX_LABEL = 40  # characters of a label that fit beside the picture
_REST = 0.02  # share of all customers without a ribbon above which the page says so


def picture(rows: Sequence[Mapping[str, object]]) -> Row | None:
    """The picture's parts in pixels; None without clusters of last week.

    Parameters
    ----------
    rows : sequence of mapping of str to object
        Of `cluster_lineage`, of one stage and layer, in the order of clusters.
    """
    before = {str(row["cluster"]): _known(row["customers_before"]) for row in rows if _known(row["customers_before"])}
    now = {str(row["cluster"]): _known(row["customers"]) for row in rows if _known(row["customers"])}
    flows = _flows(rows, before, now)
    if not flows:
        return None
    customers = max(sum(before.values()), sum(now.values()))
    letters = [str(row["cluster"]) for row in rows if str(row["cluster"]) in before or str(row["cluster"]) in now]
    names = {str(row["cluster"]): _clipped(f"{row['cluster']} · {row['cluster_name']}") for row in rows}
    columns = slots(letters, (before, now), _BARS / customers, _SLOT)
    with_ribbon = sum(flow.count for flow in flows)
    return {
        "viewbox": f"0 0 610 {px(columns.height)}",
        "ribbons": ribbons(flows, columns, _LEFT[1], _RIGHT[0]),
        "left": [end(one, before[one], _figures(one, before), columns) for one in letters if one in before],
        "right": [end(names[one], now[one], _figures(one, now), columns, one) for one in letters if one in now],
        "has_moved": any(flow.kind != STAYS for flow in flows),
        "has_rest": customers - with_ribbon > _REST * customers,
    }


def _flows(rows: Sequence[Mapping[str, object]], before: Mapping[str, float], now: Mapping[str, float]) -> list[Flow]:
    """One flow per pair; a split from a cluster that merged into it is recorded in both rows."""
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
        Flow(start, to, STAYS if start == to else "g", count, _label(start, to, count))
        for (start, to), count in counts.items()
        if count > 0
    ]


def _label(start: str, to: str, count: float) -> str:
    return f"{f'{start} stays' if start == to else f'{start} to {to}'}: {plural(round(count), 'customer')}"


def _figures(cluster: str, sizes: Mapping[str, float]) -> str:
    return f"{number(sizes[cluster])} · {share(sizes[cluster], sum(sizes.values()))}"


def _known(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _clipped(text: str) -> str:
    return text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1].rstrip(" ,·") + "…"
