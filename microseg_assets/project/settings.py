"""The sections of the project file, typed, with their defaults and what each checks of itself.

It composes the specs that `ml` and `expectations` define beside their algorithms. Does not belong here: what a setting
does, and what settings together must satisfy (see `checks`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from expectations import ValidationSpec
from microseg_assets.partitions import Calendar
from microseg_assets.project.document import Document
from microseg_assets.project.lookup import ProjectError, find
from microseg_assets.sources import ContextSpec, Source, TableSpec, input_table
from ml import tables
from ml.actions import ActionPolicy
from ml.features import (
    Attribute,
    Context,
    EventRoles,
    FeatureSpec,
    context_table,
    features_table,
    with_mapped_features,
)
from ml.features.declared import DATED, DeclaredFeature, DeclaredSpec
from ml.journeys import TransitionSpec
from ml.layers import DEFAULT_LAYERS, TECHNOLOGY, SegmentSpec, default_layers, input_columns
from ml.lifecycle import LifecycleSpec
from ml.restate import Specs
from ml.rules import nearest
from ml.segments import DEFAULT_AUDIENCES, AudienceSpec
from ml.tables import Table
from ml.value import ValueSpec


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name!r} is not an IANA time zone; {nearest(name, available_timezones())}")
    return name


TimeZone = Annotated[str, AfterValidator(_zone)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Features(Section):
    """Additional features, and what counts as an order: how many days there may be between two parts of one, and within
    how many days a full refund cancels it."""

    categories: tuple[str, ...] = ()
    declared: tuple[DeclaredFeature, ...] = ()
    order_days: int = Field(default=30, ge=0, le=366)
    undo_within_days: int | None = Field(default=None, ge=0, le=366)


class Tables(Section):
    """How the business's tables map to the contract; a missing one switches off what needs it."""

    transactions: TableSpec
    customers: TableSpec | None = None
    events: TableSpec | None = None
    exposures: TableSpec | None = None
    balances: TableSpec | None = None
    context: dict[str, ContextSpec] = {}

    @model_validator(mode="after")
    def _only_customers_have_attributes(self) -> Tables:
        for name in ("transactions", "events", "exposures", "balances"):
            spec: TableSpec | None = getattr(self, name)
            if spec is not None and (spec.as_of or spec.timeless or spec.layers):
                raise ValueError(f"{name} has no attributes: as_of, timeless and layers belong to customers")
        return self

    @field_validator("transactions", "events", "exposures", "balances")
    @classmethod
    def _properties_are_valid(cls, spec: TableSpec | None, info: ValidationInfo) -> TableSpec | None:
        table = info.field_name or ""
        if spec is not None and spec.attributes:
            remedy = "declare columns of its own as properties" if table in _WITH_PROPERTIES else "leave them out"
            raise ValueError(f"{table} has no attributes, which belong to customers: {remedy}")
        if spec is not None and spec.properties:
            if table not in _WITH_PROPERTIES:
                raise ValueError(f"{table} has no properties: only {' and '.join(_WITH_PROPERTIES)} have some")
            _check_own_columns("property", spec.properties, (*tables.INPUTS[table].names, *RESERVED))
        return spec

    @field_validator("context", mode="before")
    @classmethod
    def _contexts_have_names(cls, contexts: object) -> object:
        if isinstance(contexts, dict) and isinstance(contexts.get("by", contexts.get("path")), str):
            raise ValueError("begin with a name for it: `context: {weather: {path: …, by: …}}`")
        return contexts

    @field_validator("customers")
    @classmethod
    def _attributes_are_valid(cls, customers: TableSpec | None) -> TableSpec | None:
        if customers is not None:
            if customers.properties:
                raise ValueError("customers has no properties: declare columns of its own as attributes")
            _check_own_columns("attribute", customers.attributes, (*input_columns(), *RESERVED))
            for name in customers.timeless:
                if name not in customers.attributes:
                    raise ValueError(f"timeless {name!r} is not an attribute; {nearest(name, customers.attributes)}")
            in_layers = [name for names in customers.layers.values() for name in names]
            for name in in_layers:
                if name not in customers.attributes:
                    raise ValueError(f"{name!r} in layers is not an attribute; {nearest(name, customers.attributes)}")
                if in_layers.count(name) > 1:
                    raise ValueError(f"attribute {name!r} is in layers twice: leave it in the one that it is about")
            input_table("customers", customers)
            features_table(FeatureSpec(attributes=_attributes(customers)))
        return customers


def _check_own_columns(kind: str, names: Iterable[str], taken: Iterable[str]) -> None:
    """Check the names of the columns that a project adds to an input table."""
    used = {name.lower() for name in taken}
    for name in names:
        if not ATTRIBUTE_NAME.fullmatch(name):
            raise ValueError(f"{kind} {name[:60]!r}: begin with a letter; letters, digits and _ may follow")
        if name.lower() in used:
            raise ValueError(f"{kind} {name!r} has the name of a column that microseg uses: choose another")
        used.add(name.lower())


_WITH_PROPERTIES = ("transactions", "events")
RESERVED = {"day", "table", "rule", "row", "source", "problem", "delivered"}
ATTRIBUTE_NAME = re.compile(r"[^\W\d]\w{0,60}")


def _attributes(customers: TableSpec | None) -> tuple[Attribute, ...]:
    if customers is None:
        return ()
    return tuple(
        Attribute(name, type_, None if name in customers.timeless else customers.as_of)
        for name, type_ in customers.attributes.items()
    )


class Schedule(Section):
    """When the daily and weekly jobs start, in the project's time zone."""

    hour: int = Field(default=5, ge=0, le=23)
    minute: int = Field(default=0, ge=0, le=59)

    @model_validator(mode="after")
    def _leaves_room_for_training(self) -> Schedule:
        if self.hour * 60 + self.minute + 30 >= 24 * 60:
            raise ValueError("on Mondays training follows half an hour later, the same day: choose a time before 23:30")
        return self


class Project(Section):
    """A validated project file."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")
    title: str = ""
    time_zone: TimeZone = "UTC"
    currency: str = "EUR"
    start: date
    end: date | None = None
    sources_are_complete: bool = False
    tables: Tables
    features: Features = Features()
    event_roles: EventRoles = EventRoles()
    value: ValueSpec = ValueSpec()
    lifecycle: LifecycleSpec = LifecycleSpec()
    segments: SegmentSpec = Field(default=SegmentSpec(), validate_default=True)
    audiences: tuple[AudienceSpec, ...] = DEFAULT_AUDIENCES
    journeys: TransitionSpec = TransitionSpec()
    actions: ActionPolicy = ActionPolicy()
    validation: ValidationSpec = ValidationSpec()
    schedule: Schedule = Schedule()

    _path: Path = PrivateAttr(default=Path("project.yaml"))

    @field_validator("end")
    @classmethod
    def _end_is_after_start(cls, end: date | None, info: ValidationInfo) -> date | None:
        start = info.data.get("start")
        if end is not None and start is not None and end < start:
            raise ValueError(f"end {end} lies before start {start}: swap them or leave end out")
        return end

    @field_validator("segments")
    @classmethod
    def _layers_of_attributes(cls, segments: SegmentSpec, info: ValidationInfo) -> SegmentSpec:
        """The default layers, with one for each context that the customers' attributes and mapped events are about."""
        tables_: Tables | None = info.data.get("tables")
        if tables_ is None:
            return segments
        about: dict[str, tuple[str, ...]] = {}
        if tables_.customers is not None:
            about = dict(tables_.customers.layers.items())
        if segments.layers != DEFAULT_LAYERS:
            if about:
                raise ValueError(
                    f"tables.customers.layers adds {', '.join(about)} to the default layers, which this list replaces: "
                    "add them here and leave out that key"
                )
            return segments
        mapped = tables_.events.columns if tables_.events is not None else ()
        used = tuple(feature for column, feature in TECHNOLOGY.items() if column in mapped)
        about["technology"] = (*used, *about.get("technology", ()))
        return replace(segments, layers=default_layers(about))

    @property
    def path(self) -> Path:
        """The file it was read from."""
        return self._path

    @property
    def reference(self) -> str:
        """The value for `--project`: its name if that finds this file, else the path."""
        try:
            is_found = find(self.name).samefile(self._path)
        except (ProjectError, OSError):
            is_found = False
        return self.name if is_found else shlex.quote(str(self._path))

    @cached_property
    def calendar(self) -> Calendar:
        return Calendar(self.start, self.end, self.time_zone)

    @cached_property
    def specs(self) -> Specs:
        """The specs that restating a day needs."""
        return Specs(self.value, self.lifecycle, self.segments)

    @cached_property
    def attributes(self) -> tuple[Attribute, ...]:
        """The customers table's attributes, each a feature."""
        return _attributes(self.tables.customers)

    @cached_property
    def contexts(self) -> tuple[Context, ...]:
        """What is known of the surroundings of customers, each from a table of its own."""
        return tuple(spec.context(name) for name, spec in self.tables.context.items())

    @cached_property
    def feature_spec(self) -> FeatureSpec:
        return FeatureSpec(
            categories=self.features.categories,
            attributes=self.attributes,
            order_days=self.features.order_days,
            undo_within_days=self.features.undo_within_days,
            event_roles=self.event_roles,
            declared=self._declared(),
            contexts=self.contexts,
            has_margin="margin" in self.tables.transactions.columns,
            has_visits=self.tables.events is not None,
            value_of=self.value.of,
        )

    def _declared(self) -> DeclaredSpec:
        """The declared features, and those of the columns of events that are mapped."""
        declared = DeclaredSpec(self.features.declared, tuple(self.inputs[name] for name in DATED))
        columns = self.tables.events.columns if self.tables.events is not None else ()
        return with_mapped_features(declared, columns, [attribute.name for attribute in self.attributes])

    @cached_property
    def features_table(self) -> Table:
        return features_table(self.feature_spec)

    @cached_property
    def inputs(self) -> dict[str, Table]:
        """The five input tables with this project's own columns, and a table for each context."""
        specs: dict[str, TableSpec | None] = {name: getattr(self.tables, name) for name in tables.INPUTS}
        inputs = {name: input_table(name, spec) if spec else tables.INPUTS[name] for name, spec in specs.items()}
        return inputs | {context.table: context_table(context) for context in self.contexts}

    def source(self, name: str) -> Source | None:
        """The source of an input table; None if the business does not bring that table."""
        contexts = {context.table: self.tables.context[context.name] for context in self.contexts}
        spec: TableSpec | None = contexts[name] if name in contexts else getattr(self.tables, name)
        if spec is None:
            return None
        return Source(self.inputs[name], spec, project_zone=self.time_zone, start=self.start, base=self._path.parent)

    def missing_tables(self) -> list[str]:
        return [name for name in tables.INPUTS if getattr(self.tables, name) is None]

    def located(self, key: str, message: str) -> str:
        """A message about a key of the file, or of a table under its name in the lake, with its line."""
        for context in self.contexts:
            if key.startswith(f"tables.{context.table}"):
                key = key.replace(context.table, f"context.{context.name}", 1)
        try:
            document = Document.read(self._path)
        except (OSError, ProjectError):
            document = Document(self._path, "", None)
        location = [int(part) if part.isdigit() else part for part in key.split(".")]
        return f"{document.position(location)}: {key}: {message}"
