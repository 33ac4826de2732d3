"""The week's movements: who is elsewhere than a week ago, and what caused it.

Belongs here: netting per customer (who went and came back did not move) and telling the causes apart. Does not belong
here: what a cause is (see `ml.journeys`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ml.report.data import AtlasData, Row, summed
from ml.report.words import day_of, full_day, listed, number, plural, share, width
from ml.segments.names import join_name, join_words, split_name

Pair: TypeAlias = "tuple[str | None, str]"  # from where to where; from nowhere on entry
Causes: TypeAlias = "Counter[str]"  # customers by cause

# Cause → what it is called, and what it means.
_CAUSES = {
    "behaviour": ("by behaviour", "they bought or did something else, or fell silent"),
    "model": ("by new models", "a new model drew the lines elsewhere; the customers did nothing new"),
    "both": ("by behaviour and new models together", "they did something, and the lines moved as well"),
    "rule": ("by the calendar", "a stage with a time limit came to its end"),
    "entry": ("newly known", ""),
}


@dataclass(frozen=True)
class Week:
    """Where customers were a week ago and are now.

    Parameters
    ----------
    is_known : whether the record reaches back far enough to compare with
    stages : customers by cause, per pair of stages; those who stayed are there too, without a cause
    segments : the same per pair of micro-segment ids, without those who stayed
    stayed : how many are where they were
    returned : how many of these left and came back
    """

    is_known: bool
    stages: dict[Pair, Causes]
    segments: dict[Pair, Causes]
    stayed: int
    returned: int

    @property
    def moved(self) -> dict[Pair, Causes]:
        """Between stages, entries included."""
        return {pair: causes for pair, causes in self.stages.items() if pair[0] != pair[1]}

    @property
    def arrived(self) -> dict[str, int]:
        return summed((after, causes.total()) for (_, after), causes in self.moved.items())

    @property
    def left(self) -> dict[str | None, int]:
        return summed((before, causes.total()) for (before, _), causes in self.moved.items())


def week_of(facts: AtlasData) -> Week:
    """Net the week's steps per customer."""
    stages: dict[Pair, Causes] = {}
    segments: dict[Pair, Causes] = {}
    stayed = returned = 0
    for row in facts.week:
        count = row["customers"]
        stages.setdefault((row["from_stage"], row["to_stage"]), Counter())[row["stage_cause"]] += count
        if row["cause"]:
            segments.setdefault((row["from_id"], row["to_id"]), Counter())[row["cause"]] += count
        else:
            stayed += count
            returned += count * row["has_moved"]
    return Week(bool(facts.week_span["known_before"]), stages, segments, stayed, returned)


def movements(facts: AtlasData, week: Week) -> Row:
    """The section in words."""
    first, days = facts.week_span["first_day"], facts.week_span["days"]
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
            {"text": stage_move(pair, split), "split": _split(split)} for pair, split in _biggest(week.moved, 10)
        ],
        "segment_moves": [
            {"text": _segment_move(facts, pair, split), "split": _split(split)} for pair, split in _biggest(inside, 8)
        ],
        "changed": number(changed),
        "changed_share": share(changed, changed + week.stayed),
        "returned": week.returned,
        "returned_text": plural(week.returned, "customer"),
        "causes": [
            {
                "cause": cause,
                "words": called,
                "meaning": meaning,
                "customers": number(causes[cause]),
                "share": share(causes[cause], changed),
                "width": width(causes[cause], changed),
            }
            for cause, (called, meaning) in _CAUSES.items()
            if causes[cause]
        ],
        "entered": entered,
        "entered_text": plural(entered, "customer"),
    }


def _biggest(flows: Mapping[Pair, Causes], most: int) -> list[tuple[Pair, Causes]]:
    return sorted(flows.items(), key=lambda item: (-item[1].total(), item[0][0] or "", item[0][1]))[:most]


def _split(causes: Causes) -> list[Row]:
    return [{"cause": cause, "width": width(causes[cause], causes.total())} for cause in _CAUSES if causes[cause]]


def _because(causes: Causes) -> str:
    named = [cause for cause in _CAUSES if causes[cause]]
    if len(named) == 1:
        return ("" if causes.total() == 1 else "all ") + _CAUSES[named[0]][0]
    return listed([f"{number(causes[cause])} {_CAUSES[cause][0]}" for cause in named])


def stage_move(pair: Pair, causes: Causes) -> str:
    """A change of stage in a sentence, with its causes."""
    before, after = pair
    count = causes.total()
    if before is None:
        return f"{plural(count, 'customer')} became known and {'is' if count == 1 else 'are'} now in “{after}”."
    return f"{plural(count, 'customer')} went from “{before}” to “{after}”: {_because(causes)}."


def _segment_move(facts: AtlasData, pair: Pair, causes: Causes) -> str:
    old, new = (facts.names.get(str(one), f"a micro-segment without members today ({one})") for one in pair)
    shared, old, new = _apart(old, new)
    inside = f" inside “{shared}”" if shared else ""
    return f"{plural(causes.total(), 'customer')}{inside} from “{old}” to “{new}”: {_because(causes)}."


def _apart(old: str, new: str) -> tuple[str, str, str]:
    """What two names of one stage share, and what is left of each, so that the difference stands out.

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
