"""The inputs of a page, and the data counted from them.

Belongs here: every query of the page, and the sums that more than one section needs. Does not belong here: words.

Customers are counted by SQL through the engine; the result is as small as the number of micro-segments. The same
tables always give the same data: nothing is random, no clock is read, and every query orders its rows.
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
from ml.value.currency import Money

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
class AtlasInputs:
    """The inputs of one day's page.

    Parameters
    ----------
    project : str
        Name of the project.
    day : date
        The page shows the end of this day.
    currency : str
        Currency code of amounts.
    tables : mapping of str to pa.Table
        The day's tables by the names in `TABLES`, each with `day`.
    moves : pa.Table
        `movements` of the last seven days, up to and including `day`.
    evidence : pa.Table
        `segment_evidence` of the week in force.
    lineage : pa.Table
        `cluster_lineage` of the week in force.
    choices : sequence of mapping of str to object
        Rows of `model_choices` in force, one per family, with `week`.
    switched_off : sequence of str
        Input tables that the project does not have.
    treatments : mapping of str to str
        What to do about the customers of a stage (``active``) or sub-stage (``active/at-risk``), in words.
    basis : Basis, optional
        Horizon and season behind the sum of lifetime values.
    audience_words : mapping of str to str
        Who is in an audience, in words.
    windows : mapping of str to int
        Days without a purchase after which a customer has churned (``churn_after``), and the horizon of LTV in days
        (``horizon``).

    Examples
    --------
    >>> from datetime import date
    >>> from ml import tables
    >>> inputs = AtlasInputs(
    ...     "corner shop", date(2024, 1, 31), "EUR",
    ...     tables={name: tables.OUTPUTS[name].empty_days() for name in TABLES},
    ...     moves=tables.MOVEMENTS.empty_days(), evidence=tables.SEGMENT_EVIDENCE.empty(),
    ...     lineage=tables.CLUSTER_LINEAGE.empty(), choices=[], switched_off=["balances"],
    ... )
    >>> sorted(inputs.tables)[:3]
    ['action_effects', 'action_plan', 'audiences']
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
    """The counts of a page's inputs; see the ``.sql`` files for the rows of each."""

    inputs: AtlasInputs
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

    @property
    def value_of(self) -> Money:
        """What value is reckoned in on this day."""
        return "revenue" if self.inputs.basis is None else self.inputs.basis.value_of

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Customers per stage."""
        return summed((row["stage"], row["customers"]) for row in self.stage_sizes)

    @cached_property
    def customers(self) -> int:
        return sum(self.sizes.values())

    @cached_property
    def stages(self) -> list[str]:
        return sorted(self.sizes, key=stage_order)

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
        """Days that forecasts look ahead; without forecasts, the number that texts use."""
        return self.forecasts[0]["horizon_days"] if self.forecasts else 28

    def money(self, value: float | None) -> str:
        return f"{self.inputs.currency} {amount(value)}" if is_known(value) else MISSING


def count(engine: Engine, inputs: AtlasInputs) -> AtlasData:
    """Run every query of the page."""
    tables = {**inputs.tables, "moves": inputs.moves, "evidence": inputs.evidence, "lineage": inputs.lineage}
    parameters = {"day": inputs.day, "after": inputs.day - _WINDOW}

    def rows(sql: str, *names: str) -> list[Row]:
        result: list[Row] = engine.query(sql, parameters, **{name: tables[name] for name in names}).to_pylist()
        return result

    def rows_of(name: str, *names: str) -> list[Row]:
        return rows(sql_of("ml.report", name), *names)

    return AtlasData(
        inputs,
        stage_sizes=rows_of("stage_sizes", "lifecycle_stages"),
        week=rows_of("week", "moves"),
        week_span=rows_of("week_span", "moves")[0],
        forecasts=rows_of("forecasts", "journey_forecasts", "lifecycle_stages", "movements", "action_plan"),
        plan=rows_of("plan", "action_plan"),
        audiences=rows_of("audiences", "audiences"),
        profiles=rows(
            "SELECT * FROM micro_segment_profiles WHERE day = $day ORDER BY micro_segment", "micro_segment_profiles"
        ),
        effects=rows("SELECT * FROM action_effects WHERE day = $day ORDER BY micro_segment, action", "action_effects"),
        evidence=rows("SELECT * FROM evidence ORDER BY r2_log_spend DESC, grouping", "evidence"),
        lineage=rows("SELECT * FROM lineage ORDER BY stage, layer, LENGTH(cluster), cluster", "lineage"),
    )


def net_week(engine: Engine, moves: pa.Table, day: date) -> list[Row]:
    """Count customers by their micro-segment a week ago and now, with the cause: rows of ``week.sql``.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    moves : pa.Table
        `movements` with `day`, of at least the seven days up to `day`.
    day : date
        End of the week.
    """
    result: list[Row] = engine.query(
        sql_of("ml.report", "week"), {"day": day, "after": day - _WINDOW}, moves=moves
    ).to_pylist()
    return result


def stage_order(stage: str) -> tuple[int, str]:
    """Sort key of a stage: prospect first, churn and no-sale last, then a project's own stages by name."""
    return (_ORDER.index(stage) if stage in _ORDER else len(_ORDER), stage)


def total(values: Iterable[float | None]) -> float:
    """The sum of the known values, independent of their order."""
    return math.fsum(value for value in values if is_known(value))


def summed(pairs: Iterable[tuple[Key, Count]]) -> dict[Key, Count]:
    """Sums by key, in the order in which keys first appear."""
    sums: dict[Key, Count] = {}
    for key, count in pairs:
        sums[key] = sums[key] + count if key in sums else count
    return sums
