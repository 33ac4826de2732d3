"""A project and what it works with: its lake, its engine and its models, and what is read of them.

Belongs here: accepted rows, facts and choices, as everything else reads them. Does not belong here: how an asset is
declared (see `chain`) and what a body gets to work with (see `step`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Any

import dagster as dg

from microseg_assets.lake import Lake
from microseg_assets.partitions import Calendar
from microseg_assets.project import Project
from microseg_assets.sources import Source
from microseg_assets.tracking import Tracking
from ml import tables
from ml.engine import Engine, Input
from ml.features import Facts, repeated_orders, undone_orders
from ml.restate import Models
from ml.segments import SegmentSpec

FAMILIES = ("value", "lifecycle", "layers", "transitions", "action-response")
RESTATING = ("value", "lifecycle", "layers")  # the families whose models decide a customer's micro-segment


@dataclass(frozen=True)
class Stored:
    """Where an asset's partitions lie: a table, and the values of its partition dimensions before the last.

    `beside` are tables that are written with it.
    """

    table: tables.Table
    fixed: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[tables.Table, ...] = ()


@dataclass(frozen=True)
class Choice:
    """A family's choice in force: its model (of the family's own class), or None with the reason."""

    model: Any
    label: str
    version: int | None
    reason: str


@dataclass
class Workspace:
    """A project and the parts that it works with.

    Parameters
    ----------
    project : the project file, validated
    lake, engine, tracking : where tables live, what runs queries, where models are logged
    stored : asset to where its partitions lie, once it is declared
    """

    project: Project
    lake: Lake
    engine: Engine
    tracking: Tracking
    stored: dict[str, Stored] = field(default_factory=dict)

    @property
    def calendar(self) -> Calendar:
        return self.project.calendar

    @cached_property
    def sources(self) -> dict[str, Source | None]:
        """Where each input table comes from; None for those the business does not bring."""
        return {name: self.project.source(name) for name in tables.INPUTS}

    def is_off(self, name: str) -> bool:
        """Whether an asset is about an input table that the business does not bring: then there is no such asset."""
        table = name.removeprefix("raw_")
        return table in tables.INPUTS and self.sources[table] is None

    def brought(self) -> list[str]:
        """The input tables that the business brings."""
        return [name for name, source in self.sources.items() if source is not None]

    def accepted_of(self, table: str, days: Sequence[date]) -> Input:
        """Accepted rows of an input table, as the engine reads them; none of one that is not brought."""
        rows = self.project.inputs[table]
        return rows.empty_days() if self.is_off(table) else self.lake.files(rows, days)

    def key(self, name: str) -> dg.AssetKey:
        return dg.AssetKey([self.project.name, name])

    def choice(self, family: str, week: date | None) -> Choice:
        """What a family chose in `week`; the baseline before the first week."""
        if week is None:
            return Choice(None, "baseline", None, "no training week has ended before this day")
        row = self.lake.read(tables.MODEL_CHOICES, week, family=family).to_pylist()[0]
        if row["version"] is None:
            return Choice(None, "baseline", None, row["reason"])
        model = self.tracking.load(row["model_name"], row["version"])
        return Choice(model, f"{row['model_name']}/{row['version']}", row["version"], row["reason"])

    def choice_rows(self, week: date | None) -> list[dict[str, Any]]:
        """The rows of `model_choices` of a week, as far as they are there."""
        if week is None:
            return []
        rows = []
        for family in FAMILIES:
            if not self.lake.missing(tables.MODEL_CHOICES, [week], family=family):
                rows += self.lake.read(tables.MODEL_CHOICES, week, family=family).to_pylist()
        return [{**row, "week": week} for row in rows]

    def models(self, week: date | None, *, without: Sequence[str] = ()) -> Models:
        """The value, lifecycle and layer models that a week chose, for everything that restates days under them."""
        chosen: dict[str, Any] = {
            family: None if family in without else self.choice(family, week).model for family in RESTATING
        }
        return Models(**chosen, specs=replace(self.project.specs, segments=self._segments(chosen["layers"])))

    def segments_in_force(self, week: date | None) -> SegmentSpec:
        """The layers of the model in force: what the project file says anew counts from the next training week on."""
        return self._segments(self.choice("layers", week).model)

    def _segments(self, model: Any) -> SegmentSpec:
        spec = self.project.segments
        return spec if model is None else replace(spec, layers=model.layers)

    def same_models(self, left: date | None, right: date | None) -> bool:
        """Whether two weeks chose the same versions of the models that decide a customer's micro-segment."""
        return left == right or all(self.choice(f, left).label == self.choice(f, right).label for f in RESTATING)

    def facts(self, last: date) -> Facts:
        """Facts summed from accepted rows, none later than `last`."""
        days = self.calendar.days(self.calendar.start, last)
        return self.facts_of(days)

    def facts_of(self, days: Sequence[date]) -> Facts:
        """Facts summed from the accepted rows of some days."""
        return Facts.from_rows(self.engine, self.project.feature_spec, **self.accepted(days))

    def accepted(self, days: Sequence[date]) -> dict[str, Input]:
        """The accepted rows of some days by input table, as the engine reads them."""
        return {name: self.accepted_of(name, days) for name in self.project.inputs}

    def facts_so_far(self, last: date) -> Facts:
        """Facts as `customer_days` holds them, none later than `last`."""
        days = self.calendar.days(self.calendar.start, last)
        facts = Facts(
            self.engine,
            self.project.feature_spec,
            self.lake.files(tables.CUSTOMER_DAYS, days),
            self.lake.files(tables.CATEGORY_DAYS, days),
            self.accepted_of("customers", days),
        )
        gone = set(self.lake.missing(tables.ORDER_DAYS, days))  # days that were made before parts were looked for
        orders = self.lake.files(tables.ORDER_DAYS, [day for day in days if day.isoformat() not in gone])
        repeated = repeated_orders(self.engine, orders, facts.spec.order_days)
        if facts.spec.undo_within_days is None:  # then no day needs the lines of all days before it
            return replace(facts, repeated_orders=repeated)
        undone = undone_orders(self.engine, self.accepted_of("transactions", days), facts.spec.undo_within_days)
        return replace(facts, repeated_orders=repeated, undone_orders=undone)
