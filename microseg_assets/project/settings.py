"""The project file: one YAML, typed and validated, that drives the whole chain.

It composes the specs that `ml` and `expectations` define beside their algorithms. Belongs here: reading, defaults and
error messages with file, line and remedy. Does not belong here: what a setting does.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import types
import typing
import warnings
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import available_timezones

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from expectations import ValidationSpec
from microseg_assets.partitions import Calendar
from microseg_assets.project.lookup import ProjectError, RenamedSetting, find
from microseg_assets.sources import Source, TableSpec, input_table
from ml import tables
from ml.actions import ActionPolicy
from ml.features import Attribute, FeatureSpec, features_table
from ml.journeys import TransitionSpec
from ml.lifecycle import CUTS, PARAMETERS, LifecycleSpec
from ml.restate import Specs
from ml.rules import RuleError, bind, nearest
from ml.segments import DEFAULT_AUDIENCES, AudienceSpec, SegmentSpec, input_columns, unknown_features
from ml.segments.audiences import MEDIAN, spelt_out
from ml.segments.specs import RENAMED
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
    """Features beside those that every project has, and what counts as an order: how many days may lie between two
    parts of one, and within how many days a refund of all of it takes it away."""

    categories: tuple[str, ...] = ()
    order_days: int = Field(default=30, ge=0, le=366)
    undo_within_days: int | None = Field(default=None, ge=0, le=366)


class Tables(Section):
    """How the business's own tables map to the contract; each missing one switches off what needs it."""

    transactions: TableSpec
    customers: TableSpec | None = None
    events: TableSpec | None = None
    exposures: TableSpec | None = None
    balances: TableSpec | None = None

    @model_validator(mode="after")
    def _of_customers_only(self) -> Tables:
        for name in ("transactions", "events", "exposures", "balances"):
            spec: TableSpec | None = getattr(self, name)
            if spec is not None and (spec.as_of or spec.timeless):
                raise ValueError(f"{name} has no attributes: as_of and timeless are keys of customers")
        return self

    @field_validator("customers")
    @classmethod
    def _new_names(cls, customers: TableSpec | None) -> TableSpec | None:
        if customers is not None:
            taken = {name.lower() for name in (*input_columns(), *_TAKEN)}
            for name in customers.attributes:
                if not _NAME.fullmatch(name):
                    raise ValueError(f"attribute {name[:60]!r}: begin with a letter; letters, digits and _ may follow")
                if name.lower() in taken:
                    raise ValueError(f"attribute {name!r} is called like a column of the chain: choose another name")
            for name in customers.timeless:
                if name not in customers.attributes:
                    raise ValueError(f"timeless {name!r} is no attribute; {nearest(name, customers.attributes)}")
            input_table("customers", customers)
            features_table(FeatureSpec(attributes=_attributes(customers)))
        return customers


_TAKEN = {"day", "table", "rule", "row", "source", "problem", "delivered"}
_NAME = re.compile(r"[^\W\d]\w{0,60}")


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
    def _room_for_training(self) -> Schedule:
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
    value: ValueSpec = ValueSpec()
    lifecycle: LifecycleSpec = LifecycleSpec()
    segments: SegmentSpec = SegmentSpec()
    audiences: tuple[AudienceSpec, ...] = DEFAULT_AUDIENCES
    journeys: TransitionSpec = TransitionSpec()
    actions: ActionPolicy = ActionPolicy()
    validation: ValidationSpec = ValidationSpec()
    schedule: Schedule = Schedule()

    _path: Path = PrivateAttr(default=Path("project.yaml"))

    @field_validator("end")
    @classmethod
    def _in_order(cls, end: date | None, info: ValidationInfo) -> date | None:
        start = info.data.get("start")
        if end is not None and start is not None and end < start:
            raise ValueError(f"end {end} lies before start {start}: swap them or leave end out")
        return end

    @property
    def path(self) -> Path:
        """The file it was read from."""
        return self._path

    @property
    def reference(self) -> str:
        """What to write after `--project`: its name where that finds this file, else the file."""
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
    def feature_spec(self) -> FeatureSpec:
        return FeatureSpec(
            self.features.categories, self.attributes, self.features.order_days, self.features.undo_within_days
        )

    @cached_property
    def features_table(self) -> Table:
        return features_table(self.feature_spec)

    @cached_property
    def inputs(self) -> dict[str, Table]:
        """The five input tables with this project's own columns."""
        if self.tables.customers is None:
            return dict(tables.INPUTS)
        return {**tables.INPUTS, "customers": input_table("customers", self.tables.customers)}

    def source(self, name: str) -> Source | None:
        """The source of an input table; None if the business does not bring that table."""
        spec: TableSpec | None = getattr(self.tables, name)
        if spec is None:
            return None
        return Source(self.inputs[name], spec, project_zone=self.time_zone, start=self.start, base=self._path.parent)

    def missing_tables(self) -> list[str]:
        return [name for name in tables.INPUTS if getattr(self.tables, name) is None]

    def located(self, key: str, message: str) -> str:
        """A sentence about a key of the file, with its line."""
        try:
            tree = yaml.compose(self._path.read_text(encoding="utf-8"), Loader=_Loader)
        except (OSError, ValueError, yaml.YAMLError):
            tree = None
        return f"{_place(self._path, tree, key.split('.'))}: {key}: {message}"


class _Loader(yaml.SafeLoader):
    """YAML without two silent surprises: the last one of a key that is given twice wins, and what looks like a date is
    made one before anybody can say that it is none."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    said = f"the key {key.value!r} is given twice, first in line {seen[key.value]}; remove one"
                    raise yaml.constructor.ConstructorError(problem=said, problem_mark=key.start_mark)
                seen[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


_WARNED: set[str] = set()  # what this process has said of renamed settings


def _rename(path: Path, tree: yaml.Node | None, content: dict[str, Any]) -> None:
    """Give settings their names of now, in place, with a warning each.

    Raises
    ------
    ProjectError
        If a setting is given under both names.
    """
    segments = content.get("segments")
    layers = segments.get("layers") if isinstance(segments, dict) else None
    for number, layer in enumerate(layers if isinstance(layers, list) else []):
        for old in sorted(RENAMED.keys() & layer.keys() if isinstance(layer, dict) else ()):
            key, new = ("segments", "layers", number, old), RENAMED[old]
            place = f"{_place(path, tree, key)}: {_spelt(key)}"
            if new in layer:
                raise ProjectError(f"{place} is called {new} now, which is given too; remove the old one")
            layer[new] = layer.pop(old)
            said = f"{place} is called {new} now; rename it"
            if said not in _WARNED:  # a command reads its project file more than once
                _WARNED.add(said)
                warnings.warn(said, RenamedSetting, stacklevel=3)


def load(name: str) -> Project:
    """Read and validate a project file, by name or path.

    Raises
    ------
    ProjectError
        With every problem of the file, one a line: file, line, key, what is wrong, what to do.
    """
    path = find(name)
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=_Loader)
        content = yaml.load(text, Loader=_Loader)
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{path}:{mark.line + 1}" if mark else str(path)
        said = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
        raise ProjectError(f"{line}: is not YAML: {said}") from None
    if not isinstance(content, Mapping):
        held = _YAML_TYPES.get(type(content), "something else")
        raise ProjectError(f"{path}: must hold keys and values, such as `name: my_shop`; it holds {held}")
    content = dict(content)
    _rename(path, tree, content)
    try:
        project = Project.model_validate(content)
    except ValidationError as error:
        problems = [_sentence(path, tree, problem) for problem in _one_a_place(tree, error.errors())]
        raise ProjectError("\n".join(problems)) from None
    if wrong := [f"{_place(path, tree, key)}: {_spelt(key)}: {said}" for key, said in _wrong_rules(project)]:
        raise ProjectError("\n".join(wrong))
    project._path = path
    return project


_YAML_TYPES = {type(None): "nothing", list: "a list", str: "a text", int: "a number", float: "a number", bool: "a yes"}
_PLAINER = {
    "dict_type": "must hold keys and values below it",
    "model_type": "must hold keys and values below it",
    "dataclass_type": "must hold keys and values below it",
    "tuple_type": "must be a list",
    "date_from_datetime_parsing": "must be a day, such as 2024-01-31",
    "date_from_datetime_inexact": "must be a day, such as 2024-01-31",
    "date_parsing": "must be a day, such as 2024-01-31",
    "date_type": "must be a day, such as 2024-01-31",
    "string_type": "must be a text; put it in quotes",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_pattern_mismatch": "must begin with a small letter; small letters, digits and _ may follow, 41 in all",
}


def _wrong_rules(project: Project) -> Iterator[tuple[tuple[Any, ...], str]]:
    """What no single section can check: expressions, features and names that are about the project's own columns."""
    try:
        features = project.features_table.names
    except ValueError as error:
        yield ("features", "categories"), str(error)
        return
    columns = input_columns(features)
    yield from _wrong_tables(project)
    yield from _wrong_expressions(project, columns)
    yield from _wrong_layers(project, features, columns)
    named: tuple[tuple[tuple[str, ...], list[str]], ...] = (
        (("segments", "layers"), [layer.name for layer in project.segments.layers]),
        (("audiences",), [audience.name for audience in project.audiences]),
        (("actions", "actions"), [action.name for action in project.actions.actions]),
    )
    for place, names in named:
        for i, name in enumerate(names):
            if name in names[:i]:
                yield (*place, i, "name"), f"{name!r} is given twice; rename one"


def _wrong_expressions(project: Project, columns: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Rules of stages, layers, audiences and tables that name no column or cannot be read."""
    medians = [f"{MEDIAN}{name}" for name in columns]
    declared = [*tables.LIFECYCLE_STAGES.columns, *project.features_table.columns, *tables.CUSTOMER_FEATURES.columns]
    types = dict.fromkeys(columns, "double") | {c.name: c.type for c in declared if c.name in columns}
    known_facts = {
        name: type_ for name, type_ in types.items() if name not in ("stage", "sub_stage", "spend_trend_28d")
    }
    rules: list[tuple[tuple[Any, ...], str, Mapping[str, str], Collection[str]]] = [
        *((("lifecycle", "stages", i, "when"), r.when, known_facts, PARAMETERS)
          for i, r in enumerate(project.lifecycle.stages)),
        *((("lifecycle", "sub_stages", i, "when"), r.when, known_facts, (*PARAMETERS, *CUTS))
          for i, r in enumerate(project.lifecycle.sub_stages)),
        *((("segments", "layers", i, "rules", j, "when"), r.when, types, ())
          for i, layer in enumerate(project.segments.layers) for j, r in enumerate(layer.rules)),
    ]  # fmt: skip
    declared_audiences = project.audiences if project.audiences != DEFAULT_AUDIENCES else ()  # those are known to hold
    for i, audience in enumerate(declared_audiences):
        try:
            rules += [(("audiences", i, "when"), one.when, types, medians) for one in spelt_out((audience,), columns)]
        except RuleError as error:
            yield ("audiences", i, "when"), str(error)
    for i, own in enumerate(project.validation.rules):
        if own.table in project.inputs:
            own_types = {column.name: str(column.type) for column in project.inputs[own.table].columns}
            rules.append((("validation", "rules", i, "holds"), own.holds, own_types, ()))
    for key, text, known, parameters in rules:
        try:
            bind(text, known, parameters)
        except RuleError as error:
            yield key, str(error)


def _wrong_tables(project: Project) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Settings of validation that are about a table that is none."""
    places: list[tuple[tuple[Any, ...], str]]
    places = [(("validation", "rules", i, "table"), own.table) for i, own in enumerate(project.validation.rules)]
    places += [(("validation", "min_rows", name), name) for name in project.validation.min_rows]
    for key, name in places:
        if name not in project.inputs:
            yield key, f"{name!r} is no table; {nearest(name, project.inputs)}"


def _wrong_layers(
    project: Project, features: Collection[str], columns: Sequence[str]
) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Layers that are cut by what is no feature, or in what is no stage."""
    layers = [layer.name for layer in project.segments.layers]
    for name, feature in unknown_features(project.segments, features):
        yield (
            ("segments", "layers", layers.index(name), "features"),
            f"{feature!r} is no feature; {nearest(feature, columns)}",
        )
    stages = project.lifecycle.stage_names()
    for i, layer in enumerate(project.segments.layers):
        if layer.method == "kmeans" and not layer.features:
            yield ("segments", "layers", i, "features"), f"layer {layer.name} has no feature to be cut by: list some"
        for unknown in (stage for stage in layer.stages if stage not in stages):
            yield ("segments", "layers", i, "stages"), f"{unknown!r} is no stage; {nearest(unknown, stages)}"


def _spelt(key: Collection[Any]) -> str:
    return repr(".".join(map(str, key)))


def _one_a_place(tree: yaml.Node | None, problems: Collection[Any]) -> list[Any]:
    """The problems that pydantic found, one for each place: for `X | Y` it reports one for each of X and Y."""
    places: dict[tuple[Any, ...], Any] = {}
    for problem in problems:
        location = list(problem["loc"])
        while location and problem["type"] not in _ABSENT and not _is_there(tree, location):
            location.pop()
        first = places.setdefault(tuple(location), {**problem, "loc": tuple(location)})
        if problem["type"] == "literal_error" and first["type"] != "literal_error":  # a number, or a word such as auto
            first["or"] = problem["ctx"]["expected"]
    return list(places.values())


_ABSENT = ("missing", "missing_argument")


def _is_there(tree: yaml.Node | None, location: Collection[Any]) -> bool:
    for part in location:
        tree = _under(tree, part)
    return tree is not None


def _under(node: yaml.Node | None, part: Any) -> yaml.Node | None:
    """The value under a key or index."""
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        found: yaml.Node = node.value[part]
        return found
    return None


def _place(path: Path, tree: yaml.Node | None, location: Collection[Any]) -> str:
    """File and line of a key, or of the innermost one above it that is there."""
    mark = tree.start_mark if tree is not None else None
    for part in location:
        if isinstance(tree, yaml.MappingNode):
            mark = next((key.start_mark for key, _ in tree.value if key.value == str(part)), mark)
        tree = _under(tree, part)
        if tree is None:
            break
        if isinstance(part, int):
            mark = tree.start_mark
    return f"{path}:{mark.line + 1}" if mark else str(path)


def _sentence(path: Path, tree: yaml.Node | None, problem: Any) -> str:
    """One problem that pydantic found, as a sentence with its place in the file."""
    location = list(problem["loc"])
    place, key = _place(path, tree, location), ".".join(map(str, location)) or "the file"
    kind, said = problem["type"], problem["msg"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place}: unknown key {key!r}; {nearest(str(location[-1]), _known_keys(location[:-1]))}"
    if kind in _ABSENT:
        return f"{place}: {key!r} is missing; add it"
    said = _PLAINER.get(kind, said.removeprefix("Value error, ")) + (f", or {problem['or']}" if "or" in problem else "")
    given = "" if kind == "value_error" else f" (it is {problem['input']!r:.80})"
    return f"{place}: {key!r}: {said[:1].lower()}{said[1:]}{given}"


def _known_keys(location: list[Any]) -> list[str]:
    """Names of the keys that may stand at a place of the project file."""
    kind: Any = Project
    for part in location:
        if isinstance(part, int):
            kind = next((a for a in typing.get_args(kind) if a is not Ellipsis), kind)
        else:
            kind = _fields(kind).get(part, dict)
        kind = _unwrapped(kind)
    return list(_fields(kind))


def _unwrapped(kind: Any) -> Any:
    """The type inside of `X | None`."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return next(a for a in typing.get_args(kind) if a is not type(None))
    return kind


def _fields(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: info.annotation for name, info in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind):
        return typing.get_type_hints(kind)
    return {}
