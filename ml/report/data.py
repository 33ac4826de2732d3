"""What a page is made of, and what is counted from it.

Belongs here: every query the page asks, and the sums that more than one section needs. Does not belong here: words.

Customers are counted by SQL through the engine; what is left is as small as the number of micro-segments. The same
tables always give the same facts: nothing is drawn at random, no clock is read, and every query orders its rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import pyarrow as pa

from ml.engine import Engine, sql_of
from ml.report.words import MISSING, amount, is_known
from ml.value.basis import Basis

Row: TypeAlias = dict[str, Any]
Key = TypeVar("Key")
Count = TypeVar("Count", int, float)

TABLES = (
    "lifecycle_stages",
    "micro_segment_profiles",
    "movements",
    "journey_forecasts",
    "action_effects",
    "action_plan",
    "audiences",
)
WINDOW_DAYS = 7  # of movements
_WINDOW = timedelta(days=WINDOW_DAYS)
_ORDER = ("prospect", "fun", "new", "active", "star", "reengaged", "churn", "no-sale")


@dataclass(frozen=True)
class Atlas:
    """What one day's page is made of.

    Parameters
    ----------
    project, day, currency : whose page, the day's end it shows, and the code money is written with
    tables : the day's tables by the names in `TABLES`, each with `day`
    moves : `movements` of the last seven days, up to and including `day`
    evidence : `segment_evidence` of the week in force
    lineage : `cluster_lineage` of the week in force
    choices : rows of `model_choices` in force, one per family, with `week`
    switched_off : input tables that the business does not bring
    treatments : what to do about the customers of a stage (``active``) or sub-stage (``active/at-risk``), in words
    basis : what the day's sum of values rests on; None if there are none
    audience_words : who is in an audience, in words
    windows : days of silence from which a customer has churned (``churn_after``), and the horizon of LTV (``horizon``)
    """

    project: str
    day: date
    currency: str
    tables: Mapping[str, pa.Table]
    moves: pa.Table
    evidence: pa.Table
    lineage: pa.Table
    choices: Sequence[Mapping[str, Any]]
    switched_off: Sequence[str]
    treatments: Mapping[str, str] = field(default_factory=dict)
    basis: Basis | None = None
    audience_words: Mapping[str, str] = field(default_factory=dict)
    windows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class AtlasData:
    """The day's tables, counted once; see the ``.sql`` files for what a row of each holds."""

    atlas: Atlas
    stage_sizes: list[Row]
    week: list[Row]
    week_span: Row
    forecasts: list[Row]
    plan: list[Row]
    audiences: list[Row]
    profiles: list[Row]
    effects: list[Row]
    evidence: list[Row]
    lineage: list[Row]

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Customers per stage."""
        return summed((row["stage"], row["customers"]) for row in self.stage_sizes)

    @cached_property
    def customers(self) -> int:
        return sum(self.sizes.values())

    @cached_property
    def stages(self) -> list[str]:
        return sorted(self.sizes, key=place)

    @cached_property
    def stage_profiles(self) -> dict[str, Row]:
        return {row["stage"]: row for row in self.profiles if row["depth"] == 0}

    @cached_property
    def leaves(self) -> list[Row]:
        """Profiles of whole strings: the micro-segments that customers are in."""
        return [row for row in self.profiles if row["is_leaf"]]

    @cached_property
    def names(self) -> dict[str, str]:
        return {row["micro_segment_id"]: row["name"] for row in self.profiles}

    @cached_property
    def ltv(self) -> float:
        return total(row["ltv"] for row in self.stage_profiles.values())

    @cached_property
    def flows(self) -> dict[tuple[str, str], float]:
        """Expected customers per stage of today and stage at the forecast's horizon."""
        return summed(((row["stage"], row["next_stage"]), row["customers"]) for row in self.forecasts)

    @property
    def horizon(self) -> int:
        """Days that forecasts look ahead; where there is none, those that texts still speak of."""
        return self.forecasts[0]["horizon_days"] if self.forecasts else 28

    def money(self, value: float | None) -> str:
        return f"{self.atlas.currency} {amount(value)}" if is_known(value) else MISSING


def counted(engine: Engine, atlas: Atlas) -> AtlasData:
    """Ask the day's tables everything that the page tells."""
    given = {**atlas.tables, "moves": atlas.moves, "evidence": atlas.evidence, "lineage": atlas.lineage}
    parameters = {"day": atlas.day, "after": atlas.day - _WINDOW}

    def rows(sql: str, *names: str) -> list[Row]:
        result: list[Row] = engine.query(sql, parameters, **{name: given[name] for name in names}).to_pylist()
        return result

    def asked(name: str, *names: str) -> list[Row]:
        return rows(sql_of("ml.report", name), *names)

    return AtlasData(
        atlas,
        stage_sizes=asked("stage_sizes", "lifecycle_stages"),
        week=asked("week", "moves"),
        week_span=asked("week_span", "moves")[0],
        forecasts=asked("forecasts", "journey_forecasts", "lifecycle_stages", "movements", "action_plan"),
        plan=asked("plan", "action_plan"),
        audiences=asked("audiences", "audiences"),
        profiles=rows(
            "SELECT * FROM micro_segment_profiles WHERE day = $day ORDER BY micro_segment", "micro_segment_profiles"
        ),
        effects=rows("SELECT * FROM action_effects WHERE day = $day ORDER BY micro_segment, action", "action_effects"),
        evidence=rows("SELECT * FROM evidence ORDER BY r2_log_spend DESC, grouping", "evidence"),
        lineage=rows("SELECT * FROM lineage ORDER BY stage, layer, LENGTH(cluster), cluster", "lineage"),
    )


def net_week(engine: Engine, moves: pa.Table, day: date) -> list[Row]:
    """Who was in which micro-segment a week ago and is in which now, and why: rows of ``week.sql``.

    Parameters
    ----------
    moves : `movements` with `day`, of the days up to `day` at least back to a week before it
    """
    result: list[Row] = engine.query(
        sql_of("ml.report", "week"), {"day": day, "after": day - _WINDOW}, moves=moves
    ).to_pylist()
    return result


def place(stage: str) -> tuple[int, str]:
    """Sorts prospect first, churn and those without a sale last, a project's own stages behind them by name."""
    return (_ORDER.index(stage) if stage in _ORDER else len(_ORDER), stage)


def total(values: Iterable[float | None]) -> float:
    """The sum of what is known, the same in any order."""
    return math.fsum(value for value in values if is_known(value))


def summed(pairs: Iterable[tuple[Key, Count]]) -> dict[Key, Count]:
    """Sums by key, in the order in which keys first appear."""
    sums: dict[Key, Count] = {}
    for key, count in pairs:
        sums[key] = sums[key] + count if key in sums else count
    return sums
