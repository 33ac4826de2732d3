"""Words for features, and the names of clusters and micro-segments made of them.

Belongs here: how a cluster's difference from its stage is said to a marketer. Does not belong here: how the differences
are measured (see `naming`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from ml.features.phrases import figure, label


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
    "lines": Words("many lines so far", "few lines so far", "some lines so far", "history"),
    "refunds": Words("high refunds so far", "low refunds so far", "some refunds so far", "refunds", "nothing returned"),
    "spend": Words("high lifetime spend", "low lifetime spend", "medium lifetime spend", "history"),
    "first_day_spend": Words("big first purchase", "small first purchase", "medium first purchase", "first"),
    "orders_28d": Words("frequent", "infrequent", "medium frequency", "frequency"),
    "orders_90d": Words("frequent", "infrequent", "medium frequency", "frequency"),
    "orders_prev_28d": Words(
        "frequent last month", "infrequent last month", "medium frequency last month", "frequency"
    ),
    "spend_28d": Words("high spend", "low spend", "medium spend", "spend"),
    "spend_90d": Words("high spend", "low spend", "medium spend", "spend"),
    "spend_prev_28d": Words("high spend last month", "low spend last month", "medium spend last month", "spend"),
    "spend_trend_28d": Words("rising spend", "fading spend", "steady spend", "trend"),
    "overdue": Words("overdue", "in their rhythm", "about in their rhythm", "recency"),
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
    "p_alive": Words("surer to stay", "less sure to stay", "as sure to stay as most", "alive"),
    "expected_orders": Words("many orders expected", "few orders expected", "some orders expected", "frequency"),
    "expected_spend": Words("high expected spend", "low expected spend", "medium expected spend", "spend"),
}
ALIKE = "all alike"
UNKNOWN = "unknown"  # the value of a feature that nobody has told
MIDDLE = 0.4  # standard deviations; nearer to the mean than this is neither high nor low
VERY = 1.2  # standard deviations; further from it is "very"
GRADED = (
    "high", "low", "frequent", "infrequent", "many", "few", "long", "short", "big", "small", "often", "rarely",
    "likely", "much", "little",
)  # fmt: skip


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
    cluster_text: str = ""  # of words in an order, whose means are places: the word that is nearest
    stage_text: str = ""

    @property
    def is_unknown(self) -> bool:
        """Whether the cluster is that of those of whom the feature is not known."""
        return self.value == UNKNOWN and self.cluster_mean > 0.5

    @property
    def words(self) -> Words:
        return category_words(self.feature, self.value) if self.value else words_of(self.feature)

    def __str__(self) -> str:
        """``spend in 90 days 412 against 128``; a share of customers for the value of a string feature."""
        if self.value == UNKNOWN:
            return f"{label(self.feature)} unknown for {self.cluster_mean:.0%} against {self.stage_mean:.0%}"
        if self.value:
            return f"{label(self.feature)} {self.value} for {self.cluster_mean:.0%} against {self.stage_mean:.0%}"
        if self.cluster_text or self.stage_text:
            return f"{label(self.feature)} around {self.cluster_text} against {self.stage_text}"
        here, everywhere = (figure(self.feature, mean) for mean in (self.cluster_mean, self.stage_mean))
        return f"{label(self.feature)} {here} against {everywhere}"

    @property
    def grade(self) -> int:
        """−2 very low, −1 low, 0 about the stage's mean, 1 high, 2 very high."""
        size = (abs(self.difference) >= MIDDLE) + (abs(self.difference) >= VERY)
        return size if self.difference > 0 else -size

    def said(self, grade: int) -> str:
        """The difference in words, as great as `grade`."""
        words = self.words
        if words.none and grade <= 0 and abs(self.cluster_mean) < 0.005:
            return words.none
        if grade == 0:
            return words.middle
        phrase = words.high if grade > 0 else words.low
        return f"very {phrase}" if abs(grade) == 2 and phrase.split(" ")[0] in GRADED else phrase


def cluster_names(
    letters: Sequence[str], differences: Sequence[Sequence[Difference]], features: Sequence[str]
) -> tuple[str, ...]:
    """A name for each cluster of one stage and layer, never two the same.

    The feature that tells the clusters apart most is the layer's scale: clusters are named by their place on it ("very
    high spend", "high spend", "low spend"). A cluster that something else sets apart far more leads with that. Clusters
    that would share a name add what tells these apart, and as a last resort their letter. One family of words is used
    once in a name, so that no name contradicts itself.

    Parameters
    ----------
    letters : of the clusters
    differences : per cluster
    features : of the layer, in its order: of two that tell about as much the earlier one is the scale
    """
    if len(letters) <= 1:
        return tuple(ALIKE for _ in letters)
    blank = {number: one for number, some in enumerate(differences) for one in some if one.is_unknown}
    found = [
        {} if number in blank else {(one.feature, one.value): one for one in some if one.value != UNKNOWN}
        for number, some in enumerate(differences)
    ]
    place = {feature: number for number, feature in enumerate(features)}
    if blank and len(blank) == len(letters) - 1:
        what = next(iter(blank.values())).feature.replace("_", " ")
        return tuple(blank[n].words.high if n in blank else f"{what} known" for n in range(len(letters)))
    if not any(found):
        return tuple(f"group {letter}" for letter in letters)
    scale = max(_spreads(found, range(len(found)), place).items(), key=lambda pair: pair[1])[0]
    names: list[list[tuple[str, str]]] = [[] for _ in letters]  # per cluster its phrases and their families
    for number, one in blank.items():
        names[number].append((one.words.high, one.feature))
    on_scale = []
    for number, some in enumerate(found):
        own = max(some.values(), key=lambda one: _weight(one, place), default=None)
        if own is None or scale not in some:
            continue
        is_led = abs(some[scale].difference) < 0.5 * abs(own.difference) and abs(own.difference) >= 0.8
        if (is_led and not (own.value and own.difference < 0)) or scale[1]:
            best = max(
                (one for one in some.values() if not (one.value and one.difference < 0)),
                default=own,
                key=lambda one: _weight(one, place),
            )
            names[number].append((best.said(best.grade), best.words.family))
        else:
            on_scale.append(number)
    for number, grade in _grades(on_scale, [found[number][scale].difference for number in on_scale]).items():
        one = found[number][scale]
        names[number].append((one.said(grade), one.words.family))
    for _ in range(3):
        texts = [", ".join(phrase for phrase, _ in name) for name in names]
        groups = [[i for i, text in enumerate(texts) if text == other] for other in dict.fromkeys(texts)]
        for group in (some for some in groups if len(some) > 1):
            _tell_apart(group, found, names, place)
    texts = [", ".join(phrase for phrase, _ in name) for name in names]
    return tuple(
        f"{text} ({letters[i]})".strip() if texts.count(text) > 1 or not text else text for i, text in enumerate(texts)
    )


def _weight(one: Difference, place: Mapping[str, int]) -> float:
    """How much a difference tells, with a small advantage for the layer's earlier features."""
    return abs(one.difference) * max(1.25 - 0.05 * place.get(one.feature, 5), 1.0)


def _spreads(
    found: Sequence[Mapping[tuple[str, str], Difference]], among: Sequence[int], place: Mapping[str, int]
) -> dict[tuple[str, str], float]:
    """How far clusters lie apart on each thing that can be said of them."""
    keys = dict.fromkeys(key for number in among for key in found[number])
    spread = {}
    for key in sorted(keys, key=lambda pair: (place.get(pair[0], 99), pair[1])):
        values = [found[number][key].difference for number in among if key in found[number]]
        spread[key] = (max(values) - min(values)) * max(1.25 - 0.05 * place.get(key[0], 5), 1.0)
    return spread


def _grades(numbers: Sequence[int], values: Sequence[float]) -> dict[int, int]:
    """A grade for each cluster on the scale: all different, if there are words enough that are true."""
    order = sorted(range(len(numbers)), key=lambda i: -values[i])

    def cost(grades: Sequence[int]) -> float:
        total = 0.0
        for grade, i in zip(grades, order, strict=True):
            value = values[i]
            if (grade > 0 and value < 0.1) or (grade < 0 and value > -0.1) or (grade == 0 and abs(value) > 0.7):
                return float("inf")
            total += abs((-1.8, -0.8, 0.0, 0.8, 1.8)[grade + 2] - value)
        return total

    options = [tuple(sorted(some, reverse=True)) for some in combinations((2, 1, 0, -1, -2), len(numbers))]
    best = min(options, key=cost, default=())
    if options and cost(best) < float("inf"):
        return {numbers[i]: grade for grade, i in zip(best, order, strict=True)}
    plain = {numbers[i]: Difference("", "", values[i], 0.0, 0.0).grade for i in order}
    return plain


def _tell_apart(
    group: Sequence[int],
    found: Sequence[Mapping[tuple[str, str], Difference]],
    names: list[list[tuple[str, str]]],
    place: Mapping[str, int],
) -> None:
    """Add to each name of the group what tells its clusters apart most, of a family not yet spoken of."""
    said = {family for number in group for _, family in names[number]}
    spreads = _spreads(found, group, place)
    open_ = [key for key in spreads if all(key in found[n] and found[n][key].words.family not in said for n in group)]
    if not open_:
        return
    key = max(open_, key=lambda one: spreads[one])
    grades = _grades(group, [found[number][key].difference for number in group])
    for number in group:
        one = found[number][key]
        names[number].append((one.said(grades[number]), one.words.family))


@cache
def _families() -> dict[str, str]:
    """The family of each phrase that the table of words has."""
    return {
        phrase: words.family
        for words in WORDS.values()
        for plain in (words.high, words.low, words.middle, words.none)
        for phrase in (plain, f"very {plain}")
        if plain
    }


def stage_name(stage: str) -> str:
    """``active`` → ``Active``."""
    return stage[:1].upper() + stage[1:].replace("_", " ")


_AFTER_STAGE, _BETWEEN = ": ", " · "  # in a name of a micro-segment


def joined(stage: str, words: Sequence[str]) -> str:
    """The name of a micro-segment: what its stage is called, and the words of its layers.

    Examples
    --------
    >>> joined("Active", ["high spend", "frequent"])
    'Active: high spend · frequent'
    """
    return f"{stage}{_AFTER_STAGE}{in_words(words)}" if words else stage


def in_words(words: Sequence[str]) -> str:
    """The words of layers without a stage before them."""
    return _BETWEEN.join(words)


def taken_apart(name: str) -> tuple[str, list[str]]:
    """What a name was joined of.

    Examples
    --------
    >>> taken_apart("Active: high spend · frequent")
    ('Active', ['high spend', 'frequent'])
    """
    stage, _, rest = name.partition(_AFTER_STAGE)
    return stage, rest.split(_BETWEEN) if rest else []


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
        return joined(stage_name(stage), _without_repeats([word for word in words if word]))

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys(stage for stage, _ in self._clusters)
        yield from (f"{stage}/{part}" for stage, part in self._clusters)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _without_repeats(words: Sequence[str]) -> list[str]:
    """A layer's words without what an earlier layer spoke of already, as long as some of them are left."""
    found, spoken = [], set[str]()
    for word in words:
        phrases = word.split(", ")
        fresh = [phrase for phrase in phrases if _families().get(phrase, phrase) not in spoken]
        kept = fresh or phrases
        spoken |= {_families().get(phrase, phrase) for phrase in kept}
        found.append(", ".join(kept))
    return found
