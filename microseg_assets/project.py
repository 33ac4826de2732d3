"""The project file: one YAML, typed and validated, that drives the whole chain.

It composes the specs that `ml` and `expectations` define beside their algorithms. Belongs here: reading, defaults and
error messages with file, line and remedy. Does not belong here: what a setting does.
"""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import available_timezones

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from expectations import ValidationSpec
from microseg_assets.partitions import Calendar
from microseg_assets.sources import Source, TableSpec, input_table
from ml import tables
from ml.actions import ActionsSpec
from ml.features import Attribute, FeatureSpec, features_table
from ml.journeys import TransitionSpec
from ml.lifecycle import LifecycleSpec
from ml.restate import Specs
from ml.rules import nearest
from ml.segments import DEFAULT_AUDIENCES, AudienceSpec, SegmentSpec
from ml.value import ValueSpec

SHIPPED = Path(__file__).with_name("projects")


class ProjectError(ValueError):
    """A project file that cannot be used; the message names file, line, key and remedy."""


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name!r} is not an IANA time zone; {nearest(name, available_timezones())}")
    return name


TimeZone = Annotated[str, AfterValidator(_zone)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Features(Section):
    """Features beside those that every project has."""

    categories: tuple[str, ...] = ()


class Tables(Section):
    """How the business's own tables map to the contract; each missing one switches off what needs it."""

    transactions: TableSpec
    customers: TableSpec | None = None
    events: TableSpec | None = None
    exposures: TableSpec | None = None
    balances: TableSpec | None = None


class Schedule(Section):
    """When the daily and weekly jobs start, in the project's time zone."""

    hour: int = Field(default=5, ge=0, le=23)
    minute: int = Field(default=0, ge=0, le=59)


class Project(Section):
    """A validated project file."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")
    title: str = ""
    time_zone: TimeZone = "UTC"
    currency: str = "EUR"
    start: date
    end: date | None = None
    tables: Tables
    features: Features = Features()
    value: ValueSpec = ValueSpec()
    lifecycle: LifecycleSpec = LifecycleSpec()
    segments: SegmentSpec = SegmentSpec()
    audiences: tuple[AudienceSpec, ...] = DEFAULT_AUDIENCES
    journeys: TransitionSpec = TransitionSpec()
    actions: ActionsSpec = ActionsSpec()
    validation: ValidationSpec = ValidationSpec()
    schedule: Schedule = Schedule()

    _path: Path = PrivateAttr(default=Path("project.yaml"))

    @model_validator(mode="after")
    def _check(self) -> Project:
        if self.end is not None and self.end < self.start:
            raise ValueError(f"end {self.end} lies before start {self.start}: swap them or leave end out")
        return self

    @property
    def path(self) -> Path:
        """The file it was read from."""
        return self._path

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
        declared = self.tables.customers.attributes if self.tables.customers else {}
        return tuple(Attribute(name, type_) for name, type_ in declared.items())

    @cached_property
    def feature_spec(self) -> FeatureSpec:
        return FeatureSpec(self.features.categories, self.attributes)

    @cached_property
    def features_table(self) -> tables.Table:
        return features_table(self.feature_spec)

    @cached_property
    def inputs(self) -> dict[str, tables.Table]:
        """The five input tables with this project's own columns."""
        if self.tables.customers is None:
            return dict(tables.INPUTS)
        return {**tables.INPUTS, "customers": input_table("customers", self.tables.customers)}

    def source(self, name: str) -> Source | None:
        """The source of an input table; None if the business does not bring that table."""
        spec: TableSpec | None = getattr(self.tables, name)
        if spec is None:
            return None
        return Source(
            self.inputs[name], spec, project_zone=self.time_zone, start=self.start, base=self._path.parent
        )

    def missing_tables(self) -> list[str]:
        return [name for name in tables.INPUTS if getattr(self.tables, name) is None]


def shipped() -> list[str]:
    """Names of the project files that come with microseg."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def find(name: str) -> Path:
    """The file of a project: a path, a project of the state folder, or the name of a shipped one.

    Raises
    ------
    ProjectError
        If there is no such file.
    """
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        path = Path(name).expanduser()
        if not path.is_file():
            raise ProjectError(f"{path}: there is no such project file; give a path or one of {', '.join(shipped())}")
        return path
    for folder in (Path(os.environ.get("MICROSEG_HOME") or ".microseg") / "projects", SHIPPED):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise ProjectError(f"there is no project {name!r}: {nearest(name, shipped())} A path to a YAML file works too.")


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
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ProjectError(f"{line}: is not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(content, Mapping):
        raise ProjectError(f"{path}: must hold keys and values, such as `name: my_shop`; it holds {type(content).__name__}")
    try:
        project = Project.model_validate(dict(content))
    except ValidationError as error:
        problems = [_sentence(path, tree, problem) for problem in error.errors()]
        raise ProjectError("\n".join(problems)) from None
    project._path = path
    return project


def _sentence(path: Path, tree: yaml.Node | None, problem: Any) -> str:
    """One problem that pydantic found, as a sentence with its place in the file."""
    location = [part for part in problem["loc"] if not (isinstance(part, str) and part[:1].isupper())]
    node = tree
    for part in location:
        child = _child(node, part)
        if child is None:
            break
        node = child
    place = f"{path}:{node.start_mark.line + 1}" if node is not None else str(path)
    key = ".".join(map(str, location)) or "the file"
    kind, said = problem["type"], problem["msg"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place}: unknown key {key!r}; {nearest(str(location[-1]), _known_keys(location[:-1]))}"
    if kind in ("missing", "missing_argument"):
        return f"{place}: {key!r} is missing; add it"
    said = said.removeprefix("Value error, ")
    given = "" if kind == "value_error" else f" (it is {problem['input']!r:.80})"
    return f"{place}: {key!r}: {said[:1].lower()}{said[1:]}{given}"


def _child(node: yaml.Node | None, part: Any) -> yaml.Node | None:
    """The node under a key or index, for its line."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value if isinstance(value, yaml.CollectionNode) else key
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        found: yaml.Node = node.value[part]
        return found
    return None


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
