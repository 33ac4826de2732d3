"""Words for features, and the names of clusters and micro-segments made of them.

Belongs here: how a cluster's difference from its stage is said to a marketer. Does not belong here: how the differences
are measured (see `layers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """How a feature is spoken of: above the stage's mean, below it, near it, and at 0; `family` tells synonyms."""

    high: str
    low: str
    middle: str
    family: str
    none: str = ""


WORDS: dict[str, Words] = {
    "known_days": Words("long known", "known only recently", "known for some time", "tenure"),
    "tenure_days": Words("long-time customers", "recent customers", "medium tenure", "tenure"),
    "recency_days": Words("silent for longer", "bought recently", "not silent for long", "recency"),
    "purchase_days": Words("many purchase days so far", "few purchase days so far", "some purchase days", "history"),
    "orders": Words("many orders so far", "few orders so far", "some orders so far", "history"),
    "spend": Words("high lifetime spend", "low lifetime spend", "medium lifetime spend", "history"),
    "first_day_spend": Words("big first purchase", "small first purchase", "medium first purchase", "first"),
    "orders_28d": Words("frequent", "infrequent", "medium frequency", "frequency"),
    "orders_90d": Words("frequent", "infrequent", "medium frequency", "frequency"),
    "orders_prev_28d": Words("frequent last month", "infrequent last month", "medium frequency last month", "previous"),
    "spend_28d": Words("high spend", "low spend", "medium spend", "spend"),
    "spend_90d": Words("high spend", "low spend", "medium spend", "spend"),
    "spend_prev_28d": Words("high spend last month", "low spend last month", "medium spend last month", "previous"),
    "spend_trend_28d": Words("rising spend", "fading spend", "steady spend", "trend"),
    "purchase_days_28d": Words("frequent", "infrequent", "medium frequency", "frequency"),
    "purchase_days_90d": Words("frequent", "infrequent", "medium frequency", "frequency"),
    "average_order_90d": Words("big baskets", "small baskets", "medium baskets", "basket"),
    "mean_gap_days": Words("long gaps", "short gaps", "medium gaps", "gap"),
    "comeback_gap_days": Words("back after long", "back after a short while", "back after some time", "comeback"),
    "items_90d": Words("many items", "few items", "medium items", "items"),
    "refunds_90d": Words("many refunds", "few refunds", "some refunds", "refunds", "no refunds"),
    "discount_share_90d": Words("discount lovers", "pay full price", "some discounts", "discount", "no discounts"),
    "categories_90d": Words("many categories", "few categories", "some categories", "breadth"),
    "top_category_share_90d": Words("focused on one category", "spread over categories", "somewhat focused", "focus"),
    "events_28d": Words("many events", "few events", "some events", "events", "no events"),
    "events_90d": Words("many events", "few events", "some events", "events", "no events"),
    "days_since_event": Words("no event for long", "recent event", "event some time ago", "event recency"),
    "exposures_28d": Words("often contacted", "rarely contacted", "sometimes contacted", "exposures", "not contacted"),
    "exposures_90d": Words("often contacted", "rarely contacted", "sometimes contacted", "exposures", "not contacted"),
    "days_since_exposure": Words(
        "not contacted for long", "contacted recently", "contacted a while ago", "exposure recency"
    ),
    "balance": Words("high balance", "low balance", "medium balance", "balance"),
    "ltv": Words("high lifetime value", "low lifetime value", "medium lifetime value", "spend"),
    "p_alive": Words("likely to stay", "likely to leave", "may leave", "alive"),
    "expected_orders": Words("many orders expected", "few orders expected", "some orders expected", "frequency"),
    "expected_spend": Words("high expected spend", "low expected spend", "medium expected spend", "spend"),
}
ALIKE = "all alike"
MIDDLE = 0.4  # standard deviations; nearer to the mean than this is neither high nor low


def words_of(feature: str) -> Words:
    """The feature's words; for a feature nobody has named, its own name made readable."""
    if feature in WORDS:
        return WORDS[feature]
    if feature.startswith("share_"):
        what = feature.removeprefix("share_").replace("_", " ")
        return Words(f"much {what}", f"little {what}", f"some {what}", feature)
    what = feature.replace("_", " ")
    return Words(f"high {what}", f"low {what}", f"medium {what}", feature)


def category_words(feature: str, value: str) -> Words:
    """The words for a value of a string feature: ``mostly GROCERY``, ``age: 45-54``."""
    if feature == "top_category_90d":
        return Words(f"mostly {value}", f"hardly {value}", f"some {value}", feature)
    what = feature.replace("_", " ")
    return Words(f"{what} {value}", f"{what} not {value}", f"{what} mixed", feature)


@dataclass(frozen=True)
class Difference:
    """How far a cluster's mean of one column lies from its stage's mean, in the stage's standard deviations."""

    feature: str
    value: str  # of a string feature; empty for a number
    difference: float
    cluster_mean: float
    stage_mean: float

    @property
    def words(self) -> Words:
        return category_words(self.feature, self.value) if self.value else words_of(self.feature)

    @property
    def phrase(self) -> str:
        if self.words.none and abs(self.cluster_mean) < 0.005:
            return self.words.none
        if abs(self.difference) < MIDDLE:
            return self.words.middle
        return self.words.high if self.difference > 0 else self.words.low


def cluster_names(
    letters: Sequence[str], differences: Sequence[Sequence[Difference]], features: Sequence[str]
) -> tuple[str, ...]:
    """A name for each cluster of one stage and layer, never two the same.

    Each begins with its greatest difference and adds a second one of another kind if that is about as great; clusters
    that would share a name get further differences, and as a last resort their letter. A cluster that nothing sets
    apart is the middle of the layer's first feature.

    Parameters
    ----------
    letters : of the clusters
    differences : per cluster
    features : of the layer, in its order: of two differences that are about as great the earlier feature's comes first
    """
    if len(letters) <= 1:
        return tuple(ALIKE for _ in letters)
    ranked = [_ranked(found, features) for found in differences]
    phrases = [_phrases(found) for found in ranked]
    used = [1 + (len(said) > 1 and _about_as_great(found)) for said, found in zip(phrases, ranked, strict=True)]
    while True:
        names = [", ".join(said[:count]) for said, count in zip(phrases, used, strict=True)]
        double = [i for i, name in enumerate(names) if names.count(name) > 1]
        longer = [i for i in double if used[i] < min(len(phrases[i]), 4)]
        if not longer:
            break
        for i in longer:
            used[i] += 1
    return tuple(f"{name} ({letters[i]})".strip() if i in double else name for i, name in enumerate(names))


def _ranked(differences: Sequence[Difference], features: Sequence[str]) -> list[Difference]:
    """Greatest first, with a small advantage for the layer's earlier features; its first one if all are small."""
    place = {feature: number for number, feature in enumerate(features)}
    if max((abs(one.difference) for one in differences), default=0.0) < MIDDLE / 2:
        return sorted(differences, key=lambda one: (place[one.feature], one.value))
    advantage = [max(1.25 - 0.05 * number, 1.0) for number in range(len(features))]
    return sorted(
        differences,
        key=lambda one: (-abs(one.difference) * advantage[place[one.feature]], place[one.feature], one.value),
    )


def _phrases(differences: Sequence[Difference]) -> list[str]:
    """The phrases of differences, one per family of synonyms, greatest first."""
    found: dict[str, str] = {}
    for one in differences:
        # What a cluster mostly is says more than what it hardly is.
        if one.value and one.difference < 0 and len(differences) > 1:
            continue
        found.setdefault(one.words.family, one.phrase)
    return list(found.values())


def _about_as_great(differences: Sequence[Difference]) -> bool:
    first = differences[0]
    others = [abs(one.difference) for one in differences[1:] if one.words.family != first.words.family]
    return bool(others) and max(others) >= 0.7 and max(others) >= 0.85 * abs(first.difference)


def stage_name(stage: str) -> str:
    """``active`` → ``Active``."""
    return stage[:1].upper() + stage[1:].replace("_", " ")


class Names(Mapping[str, str]):
    """The name of any string or prefix: ``Active: high spend · frequent``. Layers with one cluster are left out.

    It answers for every string, also one it was not told of; iterating gives the stages and their single clusters.
    """

    def __init__(self, clusters: Mapping[tuple[str, str], str] | None = None) -> None:
        """`clusters` : (stage, ``layer.letter``) → the cluster's name, empty where it carries no information."""
        self._clusters = dict(clusters or {})

    def __getitem__(self, text: str) -> str:
        stage, *parts = text.split("/")
        words = [self._clusters.get((stage, part), part) for part in parts]
        said = " · ".join(word for word in words if word and word != ALIKE)
        return f"{stage_name(stage)}: {said}" if said else stage_name(stage)

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys(stage for stage, _ in self._clusters)
        yield from (f"{stage}/{part}" for stage, part in self._clusters)

    def __len__(self) -> int:
        return sum(1 for _ in self)
