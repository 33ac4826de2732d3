"""The week's movements: who is in another stage or micro-segment than a week ago, and the cause.

Belongs here: netting per customer (who left and returned did not move) and counts by cause. Does not belong here: what
a cause is (see `ml.journeys`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ml.layers.names import join_name, join_words, split_name
from ml.report.data import AtlasData, Row, summed
from ml.report.words import day_of, full_day, listed, number, plural, share, width

Pair: TypeAlias = "tuple[str | None, str]"  # from where to where; from nowhere on entry
Causes: TypeAlias = "Counter[str]"  # customers by cause

# Name and meaning of each cause.
_CAUSES = {
    "behaviour": ("by behaviour", "they bought, did something else, or became inactive"),
    "model": ("by new models", "a new model moved the boundaries; the customers did nothing new"),
    "both": ("by behaviour and new models together", "their behaviour changed, and so did the boundaries"),
    "rule": ("by the calendar", "a stage with a time limit ended"),
    "entry": ("newly known", ""),
}


@dataclass(frozen=True)
class Week:
    """Where customers were a week ago and are now.

    Parameters
    ----------
    is_known : bool
        Whether movements go back far enough to compare with.
    stages : dict of pair to Counter
        Customers by cause, per pair of stages; those who stayed are included, without a cause.
    segments : dict of pair to Counter
        The same per pair of micro-segment ids, without those who stayed.
    stayed : int
        Customers in the same micro-segment as a week ago.
    returned : int
        Those of them who left and came back.
    """

    is_known: bool
    stages: dict[Pair, Causes]
    segments: dict[Pair, Causes]
    stayed: int
    returned: int

    @property
    def moved(self) -> dict[Pair, Causes]:
        """Changes of stage, including entries."""
        return {pair: causes for pair, causes in self.stages.items() if pair[0] != pair[1]}

    @property
    def arrived(self) -> dict[str, int]:
        return summed((after, causes.total()) for (_, after), causes in self.moved.items())

    @property
    def left(self) -> dict[str | None, int]:
        return summed((before, causes.total()) for (before, _), causes in self.moved.items())


def week_of(data: AtlasData) -> Week:
    """Sum the week's net movements."""
    stages: dict[Pair, Causes] = {}
    segments: dict[Pair, Causes] = {}
    stayed = returned = 0
    for row in data.week:
        count = row["customers"]
        stages.setdefault((row["from_stage"], row["to_stage"]), Counter())[row["stage_cause"]] += count
        if row["cause"]:
            segments.setdefault((row["from_id"], row["to_id"]), Counter())[row["cause"]] += count
        else:
            stayed += count
            returned += count * row["has_moved"]
    return Week(bool(data.week_span["known_before"]), stages, segments, stayed, returned)


def movements(data: AtlasData, week: Week) -> Row:
    """The section in words."""
    first, days = data.week_span["first_day"], data.week_span["days"]
    causes: Causes = sum(week.segments.values(), Counter())
    entered = causes.pop("entry", 0)
    changed = causes.total()
    inside = {pair: split for pair, split in week.segments.items() if pair[0]}
    return {
        "known": week.is_known,
        "days": days,
        "since": full_day(first) if days else "",
        "since_short": day_of(first) if days else "",
        "stage_moves": [
            {"text": stage_move(pair, split), "split": _split(split)} for pair, split in _largest(week.moved, 10)
        ],
        "segment_moves": [
            {"text": _segment_move(data, pair, split), "split": _split(split)} for pair, split in _largest(inside, 8)
        ],
        "changed": number(changed),
        "changed_share": share(changed, changed + week.stayed),
        "returned": week.returned,
        "returned_text": plural(week.returned, "customer"),
        "causes": [
            {
                "cause": cause,
                "words": name,
                "meaning": meaning,
                "customers": number(causes[cause]),
                "share": share(causes[cause], changed),
                "width": width(causes[cause], changed),
            }
            for cause, (name, meaning) in _CAUSES.items()
            if causes[cause]
        ],
        "entered": entered,
        "entered_text": plural(entered, "customer"),
    }


def _largest(flows: Mapping[Pair, Causes], limit: int) -> list[tuple[Pair, Causes]]:
    return sorted(flows.items(), key=lambda item: (-item[1].total(), item[0][0] or "", item[0][1]))[:limit]


def _split(causes: Causes) -> list[Row]:
    return [{"cause": cause, "width": width(causes[cause], causes.total())} for cause in _CAUSES if causes[cause]]


def _because(causes: Causes) -> str:
    present = [cause for cause in _CAUSES if causes[cause]]
    if len(present) == 1:
        return ("" if causes.total() == 1 else "all ") + _CAUSES[present[0]][0]
    return listed([f"{number(causes[cause])} {_CAUSES[cause][0]}" for cause in present])


def stage_move(pair: Pair, causes: Causes) -> str:
    """A change of stage in a sentence, with its causes."""
    before, after = pair
    count = causes.total()
    if before is None:
        return f"{plural(count, 'customer')} became known and {'is' if count == 1 else 'are'} now in “{after}”."
    return f"{plural(count, 'customer')} moved from “{before}” to “{after}”: {_because(causes)}."


def _segment_move(data: AtlasData, pair: Pair, causes: Causes) -> str:
    old, new = (data.names.get(str(id_), f"a micro-segment without members today ({id_})") for id_ in pair)
    shared, old, new = _difference(old, new)
    inside = f" within “{shared}”" if shared else ""
    return f"{plural(causes.total(), 'customer')}{inside} from “{old}” to “{new}”: {_because(causes)}."


def _difference(old: str, new: str) -> tuple[str, str, str]:
    """The common part of two names of one stage, and what is left of each.

    ``Active: low spend · rising`` and ``Active: low spend · fading`` are ``Active: low spend``, ``rising``, ``fading``.
    """
    (old_stage, before), (stage, after) = split_name(old), split_name(new)
    if stage != old_stage or not (before and after):
        return "", old, new
    same = [one == other for one, other in zip(before, after, strict=False)]
    if len(before) != len(after) or all(same) or not any(same):
        return stage, join_words(before), join_words(after)
    common = [word for word, shared in zip(after, same, strict=True) if shared]
    old, new = (
        join_words([word for word, shared in zip(words, same, strict=True) if not shared]) for words in (before, after)
    )
    return join_name(stage, common), old, new
