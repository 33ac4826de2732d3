"""Words for features, and the names of clusters and micro-segments made of them.

Belongs here: how a cluster's difference from its stage is worded for a marketer. Does not belong here: how differences
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
    """How a feature is worded above the stage's mean, below it, near it, and at 0; synonyms share a `family`."""

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
    "visits_28d": Words("many visits", "few visits", "some visits", "visits", "no visits"),
    "visits_90d": Words("many visits", "few visits", "some visits", "visits", "no visits"),
    "days_since_visit": Words("no visit for long", "recent visit", "visit some time ago", "visit recency"),
    "goals_28d": Words("many goals reached", "few goals reached", "some goals reached", "goals", "no goal reached"),
    "goals_90d": Words("many goals reached", "few goals reached", "some goals reached", "goals", "no goal reached"),
    "days_since_goal": Words("no goal for long", "recent goal", "goal some time ago", "goal recency"),
    "event_value_28d": Words("high event value", "low event value", "medium event value", "event value"),
    "event_value_90d": Words("high event value", "low event value", "medium event value", "event value"),
    "mean_event_value_90d": Words("high value per event", "low value per event", "medium value per event", "per event"),
    "margin": Words("high lifetime margin", "low lifetime margin", "medium lifetime margin", "history"),
    "first_day_margin": Words("high first margin", "low first margin", "medium first margin", "first"),
    "margin_28d": Words("high margin", "low margin", "medium margin", "margin"),
    "margin_90d": Words("high margin", "low margin", "medium margin", "margin"),
    "margin_prev_28d": Words("high margin last month", "low margin last month", "medium margin last month", "margin"),
    "margin_share_90d": Words("high margin rate", "low margin rate", "medium margin rate", "margin rate"),
    "balance": Words("high balance", "low balance", "medium balance", "balance"),
    "ltv": Words("high lifetime value", "low lifetime value", "medium lifetime value", "spend"),
    "p_alive": Words("more likely to stay", "less likely to stay", "as likely to stay as most", "alive"),
    "expected_orders": Words("many orders expected", "few orders expected", "some orders expected", "frequency"),
    "expected_spend": Words("high expected spend", "low expected spend", "medium expected spend", "spend"),
}
ALIKE = "all alike"
UNKNOWN = "unknown"  # the value of a feature that is not known
NEAR_MEAN_SD = 0.4  # standard deviations from the mean within which a value is neither high nor low
VERY_SD = 1.2  # standard deviations from the mean beyond which it is "very" high or low
GRADABLE_WORDS = (
    "high", "low", "frequent", "infrequent", "many", "few", "long", "short", "big", "small", "often", "rarely",
    "likely", "much", "little",
)  # fmt: skip


def words_of(feature: str) -> Words:
    """The feature's words; for an unlisted feature, its own name made readable."""
    if feature in WORDS:
        return WORDS[feature]
    if feature.startswith("share_"):
        what = feature.removeprefix("share_").replace("_", " ")
        return Words(f"much {what}", f"little {what}", f"some {what}", feature)
    what = label(feature)
    return Words(f"high {what}", f"low {what}", f"medium {what}", feature)


def category_words(feature: str, value: str) -> Words:
    """The words for a value of a string feature: ``mostly GROCERY``, ``age: 45-54``."""
    if feature.startswith("top_") and feature.endswith("_90d"):
        return Words(f"mostly {value}", f"hardly {value}", f"some {value}", feature)
    what = label(feature)
    return Words(f"{what} {value}", f"{what} not {value}", f"{what} mixed", feature)


@dataclass(frozen=True)
class Difference:
    """How far a cluster's mean of one column lies from its stage's mean.

    Parameters
    ----------
    feature : str
        Feature of the layer.
    value : str
        Value of a string feature; empty for a number.
    difference : float
        Cluster's mean minus stage's mean, in the stage's standard deviations.
    cluster_mean, stage_mean : float
        In the feature's own unit; for a value of a string feature, its share.
    cluster_text, stage_text : str
        For words in an order, whose means are positions: the nearest word.
    """

    feature: str
    value: str
    difference: float
    cluster_mean: float
    stage_mean: float
    cluster_text: str = ""
    stage_text: str = ""

    @property
    def is_unknown(self) -> bool:
        """Whether the cluster is that of the customers whose feature is unknown."""
        return self.value == UNKNOWN and self.cluster_mean > 0.5

    @property
    def words(self) -> Words:
        """The words for the feature, or for its value."""
        return category_words(self.feature, self.value) if self.value else words_of(self.feature)

    def __str__(self) -> str:
        """``spend in 90 days 412 against 128``; a share of customers for the value of a string feature."""
        if self.value == UNKNOWN:
            return f"{label(self.feature)} unknown for {self.cluster_mean:.0%} against {self.stage_mean:.0%}"
        if self.value:
            return f"{label(self.feature)} {self.value} for {self.cluster_mean:.0%} against {self.stage_mean:.0%}"
        if self.cluster_text or self.stage_text:
            return f"{label(self.feature)} around {self.cluster_text} against {self.stage_text}"
        in_cluster, in_stage = (figure(self.feature, mean) for mean in (self.cluster_mean, self.stage_mean))
        return f"{label(self.feature)} {in_cluster} against {in_stage}"

    @property
    def grade(self) -> int:
        """−2 very low, −1 low, 0 near the stage's mean, 1 high, 2 very high."""
        size = (abs(self.difference) >= NEAR_MEAN_SD) + (abs(self.difference) >= VERY_SD)
        return size if self.difference > 0 else -size

    def phrase(self, grade: int) -> str:
        """The words for a grade."""
        words = self.words
        if words.none and grade <= 0 and abs(self.cluster_mean) < 0.005:
            return words.none
        if grade == 0:
            return words.middle
        text = words.high if grade > 0 else words.low
        return f"very {text}" if abs(grade) == 2 and text.split(" ")[0] in GRADABLE_WORDS else text


def cluster_names(
    letters: Sequence[str], differences: Sequence[Sequence[Difference]], features: Sequence[str]
) -> tuple[str, ...]:
    """A name for each cluster of one stage and layer, never the same name twice.

    The feature that distinguishes the clusters most is the layer's scale: clusters are named by their position on it
    ("very high spend", "high spend", "low spend"). A cluster that another feature distinguishes far more leads with
    that one. Clusters that would share a name add what distinguishes them and, as a last resort, their letter. A name
    uses each family of words once, so that no name contradicts itself.

    Parameters
    ----------
    letters : Sequence of str
        Letters of the clusters.
    differences : Sequence of Sequence of Difference
        Differences of each cluster.
    features : Sequence of str
        Features of the layer, in its order: of two that distinguish about equally, the earlier one is the scale.

    Returns
    -------
    tuple of str
        One name per cluster.

    Examples
    --------
    >>> high, low = Difference("spend_90d", "", 1.5, 412.0, 128.0), Difference("spend_90d", "", -0.6, 80.0, 128.0)
    >>> cluster_names(["A", "B"], [[high], [low]], ["spend_90d"])
    ('very high spend', 'low spend')
    """
    if len(letters) <= 1:
        return tuple(ALIKE for _ in letters)
    unknown = {number: one for number, of_cluster in enumerate(differences) for one in of_cluster if one.is_unknown}
    known = [
        {} if number in unknown else {(one.feature, one.value): one for one in of_cluster if one.value != UNKNOWN}
        for number, of_cluster in enumerate(differences)
    ]
    rank = {feature: number for number, feature in enumerate(features)}
    if unknown and len(unknown) == len(letters) - 1:
        what = next(iter(unknown.values())).feature.replace("_", " ")
        return tuple(unknown[n].words.high if n in unknown else f"{what} known" for n in range(len(letters)))
    if not any(known):
        return tuple(f"group {letter}" for letter in letters)
    scale = max(_spreads(known, range(len(known)), rank).items(), key=lambda pair: pair[1])[0]
    names: list[list[tuple[str, str]]] = [[] for _ in letters]  # per cluster its phrases and their families
    for number, one in unknown.items():
        names[number].append((one.words.high, one.feature))
    on_scale = []
    for number, of_cluster in enumerate(known):
        strongest = max(of_cluster.values(), key=lambda one: _strength(one, rank), default=None)
        if strongest is None or scale not in of_cluster:
            continue
        is_led = (
            abs(of_cluster[scale].difference) < 0.5 * abs(strongest.difference) and abs(strongest.difference) >= 0.8
        )
        if (is_led and not (strongest.value and strongest.difference < 0)) or scale[1]:
            best = max(
                (one for one in of_cluster.values() if not (one.value and one.difference < 0)),
                default=strongest,
                key=lambda one: _strength(one, rank),
            )
            names[number].append((best.phrase(best.grade), best.words.family))
        else:
            on_scale.append(number)
    for number, grade in _grades(on_scale, [known[number][scale].difference for number in on_scale]).items():
        one = known[number][scale]
        names[number].append((one.phrase(grade), one.words.family))
    for _ in range(3):
        texts = [", ".join(phrase for phrase, _ in name) for name in names]
        groups = [[i for i, text in enumerate(texts) if text == other] for other in dict.fromkeys(texts)]
        for group in (same for same in groups if len(same) > 1):
            _distinguish(group, known, names, rank)
    texts = [", ".join(phrase for phrase, _ in name) for name in names]
    return tuple(
        f"{text} ({letters[i]})".strip() if texts.count(text) > 1 or not text else text for i, text in enumerate(texts)
    )


def _strength(difference: Difference, rank: Mapping[str, int]) -> float:
    """How much a difference distinguishes, with a small advantage for the layer's earlier features."""
    return abs(difference.difference) * max(1.25 - 0.05 * rank.get(difference.feature, 5), 1.0)


def _spreads(
    known: Sequence[Mapping[tuple[str, str], Difference]], clusters: Sequence[int], rank: Mapping[str, int]
) -> dict[tuple[str, str], float]:
    """How far clusters lie apart on each feature and value."""
    keys = dict.fromkeys(key for number in clusters for key in known[number])
    spread = {}
    for key in sorted(keys, key=lambda pair: (rank.get(pair[0], 99), pair[1])):
        values = [known[number][key].difference for number in clusters if key in known[number]]
        spread[key] = (max(values) - min(values)) * max(1.25 - 0.05 * rank.get(key[0], 5), 1.0)
    return spread


def _grades(numbers: Sequence[int], values: Sequence[float]) -> dict[int, int]:
    """A grade for each cluster on the scale: all different, if there are enough words that are true."""
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
    return {numbers[i]: Difference("", "", values[i], 0.0, 0.0).grade for i in order}


def _distinguish(
    group: Sequence[int],
    known: Sequence[Mapping[tuple[str, str], Difference]],
    names: list[list[tuple[str, str]]],
    rank: Mapping[str, int],
) -> None:
    """Add to each name of the group what distinguishes its clusters most, from a family not yet used."""
    used = {family for number in group for _, family in names[number]}
    spreads = _spreads(known, group, rank)
    unused = [key for key in spreads if all(key in known[n] and known[n][key].words.family not in used for n in group)]
    if not unused:
        return
    key = max(unused, key=lambda one: spreads[one])
    grades = _grades(group, [known[number][key].difference for number in group])
    for number in group:
        one = known[number][key]
        names[number].append((one.phrase(grades[number]), one.words.family))


# What names of earlier versions, which stored models hold until their next refit, call a value of a feature.
_FORMER_PHRASES = {
    former: "p_alive"
    for plain in ("surer to stay", "less sure to stay", "as sure to stay as most")
    for former in (plain, f"very {plain}")
}


@cache
def _families() -> dict[str, str]:
    """The family of each phrase in the table of words, and of phrases it had before."""
    return {former: WORDS[feature].family for former, feature in _FORMER_PHRASES.items()} | {
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


def join_name(stage: str, words: Sequence[str]) -> str:
    """Join the name of a micro-segment from its stage's name and the words of its layers.

    Examples
    --------
    >>> join_name("Active", ["high spend", "frequent"])
    'Active: high spend · frequent'
    """
    return f"{stage}{_AFTER_STAGE}{join_words(words)}" if words else stage


def join_words(words: Sequence[str]) -> str:
    """Join the words of layers, without a stage."""
    return _BETWEEN.join(words)


def split_name(name: str) -> tuple[str, list[str]]:
    """Split a name into its stage's name and the words of its layers.

    Examples
    --------
    >>> split_name("Active: high spend · frequent")
    ('Active', ['high spend', 'frequent'])
    """
    stage, _, rest = name.partition(_AFTER_STAGE)
    return stage, rest.split(_BETWEEN) if rest else []


class Names(Mapping[str, str]):
    """The name of any string or prefix. Layers with one cluster are left out.

    Every string has a name, also one without a listed cluster; iterating gives the stages and their single clusters.

    Parameters
    ----------
    clusters : Mapping of tuple of str to str, optional
        Stage and ``layer.letter`` to the cluster's name, empty where it carries no information.

    Examples
    --------
    >>> names = Names({("active", "value.A"): "high spend", ("active", "rhythm.B"): "frequent"})
    >>> names["active/value.A/rhythm.B"]
    'Active: high spend · frequent'
    """

    def __init__(self, clusters: Mapping[tuple[str, str], str] | None = None) -> None:
        self._clusters = dict(clusters or {})

    def __getitem__(self, text: str) -> str:
        stage, *parts = text.split("/")
        words = [self._clusters.get((stage, part), part) for part in parts]
        return join_name(stage_name(stage), _without_repeats([word for word in words if word]))

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys(stage for stage, _ in self._clusters)
        yield from (f"{stage}/{part}" for stage, part in self._clusters)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _without_repeats(words: Sequence[str]) -> list[str]:
    """Each layer's words without those of a family that an earlier layer used, unless none would be left."""
    result, used_families = [], set[str]()
    for word in words:
        phrases = word.split(", ")
        new = [phrase for phrase in phrases if _families().get(phrase, phrase) not in used_families]
        remaining = new or phrases
        used_families |= {_families().get(phrase, phrase) for phrase in remaining}
        result.append(", ".join(remaining))
    return result
