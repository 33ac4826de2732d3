"""How a project file declares a table's source, and how mistakes in it are reported.

Belongs here: declarations. Does not belong here: anything that opens a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Literal, TypeAlias

from ml.features import Context, context_table
from ml.tables import INPUTS, Column, Table

Format: TypeAlias = Literal["csv", "jsonl", "parquet"]
AttributeType: TypeAlias = Literal["string", "double", "boolean"]
LayerContext: TypeAlias = Literal["technology", "geographic", "demographic", "psychographic"]
Severity: TypeAlias = Literal["error", "warning", "note"]


DELIVERED_BEFORE = "file: delivered before"  # the problem of rows of a file that was delivered before
EARLY = "__is_early"  # column of rows without a day: whether they are older than the project


def early_words(table: Table, start: date) -> str:
    """The problem of a row that is older than the project; code reads `EARLY` instead."""
    return f"{table.stamp}: before the first day ({start.isoformat()})"


class SourceError(ValueError):
    """A source that cannot be used; one sentence per problem.

    Parameters
    ----------
    message : what is wrong
    key : where it is declared, which begins the text; empty if the message names it
    """

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.message = message


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a source: where it is declared, and in one sentence what is wrong and what to do.

    A source with a warning can be read; a note is only shown when the project is checked.
    """

    key: str
    message: str
    severity: Severity = "error"

    @property
    def is_error(self) -> bool:
        return self.severity == "error"

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


@dataclass(frozen=True)
class SourceSpec:
    """Where a table comes from.

    Parameters
    ----------
    path : a file, a folder, or a pattern (``sales/*.csv``), or several of them: all rows of all files. Relative to the
        project file's folder, absolute, ``package://name/inner/path``, or any fsspec URL.
    files : name to location, for `query`
    query : one SELECT over the names in `files`, in DuckDB's SQL; or in a database, in its own
    format : by the file's suffix, unless given
    encoding : of text files, such as ``latin-1``, ``cp1252`` (what spreadsheets write on Windows) or ``utf-16``;
        ``auto`` is UTF-8, or UTF-16 for a file with a byte-order mark
    connection : a database, which is only read: ``postgresql://user@host/name``, ``sqlite:///shop.sqlite`` or
        ``duckdb:///shop.duckdb``, where a file is relative to the project file's folder. ``${NAME}`` stands for an
        environment variable, so that no password is in a file; PostgreSQL's own variables, such as ``PGPASSWORD``, work
        too. Requires `table` or `query`.
    table : a table or view of the database, ``orders`` or ``sales.orders``
    """

    path: str | tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    query: str = ""
    format: Format | Literal["auto"] = "auto"
    encoding: str = "auto"
    connection: str = ""
    table: str = ""

    @property
    def locations(self) -> dict[str, tuple[str, ...]]:
        """The declared locations by the name of the view of their rows; that of `path` is ``rows``."""
        if self.path:
            return {"rows": (self.path,) if isinstance(self.path, str) else self.path}
        return {name: (location,) for name, location in self.files.items()}


@dataclass(frozen=True)
class IdsSpec(SourceSpec):
    """A map from the ids of one source to those of the customers.

    Parameters
    ----------
    columns : `source_id` and `customer_id` to columns of the map, or to expressions
    where : a scalar predicate on its rows
    """

    columns: dict[str, str | bool | int | float] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True)
class TableSpec(SourceSpec):
    """How the rows of a source become rows of the contract.

    Parameters
    ----------
    columns : contract column to source column, or to a scalar SQL expression over source columns, or to a constant. A
        column that is not listed is taken from the source column of the same name, if there is one.
    where : a scalar predicate over source columns; rows for which it does not hold are not delivered
    time_zone : of timestamps without a zone; the project's by default. A date without a time is midnight in the
        project's zone in any case.
    stamp : the content of the timestamp column: ``auto`` for timestamps, ISO texts and dates; for numbers ``epoch_s``,
        ``epoch_ms``, ``epoch_us`` or ``epoch_ns`` since 1970 in UTC, or such as ``hours since 2017-01-01 00:00``
        (seconds, minutes, hours, days or weeks; the start is in `time_zone`)
    attributes : for `customers` only: additional columns, name to type
    properties : for `transactions` and `events` only: additional columns, name to type. Each is taken from the source
        column of its name, unless `columns` maps it to another one, an expression, or a field of a JSON column
    as_of : for `customers` only: the day on which it was exported; its attributes are known from then on. Without it
        they count as known from a customer's first day on, which is wrong for totals as of the export.
    timeless : attributes that never change (a first channel), and are known from the first day on in any case
    layers : for `customers` only: context to the attributes that are about it, which become a layer by default
    ids : a map from `customer_id` in this source to the customer. A chain of ids is followed to its end, a circle is
        refused; an id that is not in the map, or leads to several customers, stays as it is. Several tables can share
        a map by YAML's ``&ids`` and ``*ids``.
    """

    columns: dict[str, str | bool | int | float] = field(default_factory=dict)
    where: str = ""
    time_zone: str | None = None
    stamp: str = "auto"
    attributes: dict[str, AttributeType] = field(default_factory=dict)
    properties: dict[str, AttributeType] = field(default_factory=dict)
    as_of: date | None = None
    timeless: tuple[str, ...] = ()
    layers: dict[LayerContext, tuple[str, ...]] = field(default_factory=dict)
    ids: IdsSpec | None = None


@dataclass(frozen=True)
class ContextSpec(TableSpec):
    """How the rows of a source become those of a context: what holds for a value of an attribute from a time on.

    Parameters
    ----------
    by : the customers' attribute, or another feature of text, whose value a row is about
    valid_days : days for which a row holds unless a newer one replaces it, counting its own; ``ever`` if it holds until
        the next one
    attributes : the context's own columns, name to type; each becomes a feature ``context_<name>``
    """

    by: str = field(kw_only=True)
    valid_days: int | Literal["ever"] = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        others = {"as_of": self.as_of, "timeless": self.timeless, "layers": self.layers, "ids": self.ids}
        if foreign := [name for name, value in {**others, "properties": self.properties}.items() if value]:
            raise ValueError(f"{foreign[0]} belongs to tables about customers: leave it out")
        self.context("")

    def context(self, name: str) -> Context:
        """The context as features are computed from it."""
        valid_days = None if self.valid_days == "ever" else self.valid_days
        return Context(name, self.by, tuple(self.attributes.items()), valid_days)


def input_table(name: str, spec: TableSpec) -> Table:
    """The contract of an input table with the attributes or properties that a project adds to it."""
    if isinstance(spec, ContextSpec):
        return context_table(spec.context(name))
    attributes = [Column(own, type_, "attribute of the customer") for own, type_ in spec.attributes.items()]
    properties = [Column(own, type_, "property of the row") for own, type_ in spec.properties.items()]
    return INPUTS[name].plus([*attributes, *properties])
