"""What a table is: named columns with a type, a meaning and a unit, and the key of a row.

Belongs here: columns, tables, and their Arrow and SQL types. Does not belong here: any table of the chain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal

import pyarrow as pa

Type = Literal["string", "double", "bigint", "boolean", "date", "timestamp"]

ARROW: dict[str, pa.DataType] = {
    "string": pa.string(),
    "double": pa.float64(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}
SQL: dict[str, str] = {name: name.upper() if name != "string" else "VARCHAR" for name in ARROW}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    name : str
        Its name, in files and in queries.
    type : {"string", "double", "bigint", "boolean", "date", "timestamp"}
        What its values are.
    meaning : str
        What a value says, in words.
    unit : str, default ""
        The unit of its values, if they have one.
    required : bool, default False
        Whether every accepted row must have a value.
    formerly : str, default ""
        What earlier versions called it; files that have it under that name are read.

    Examples
    --------
    >>> Column("ltv", "double", "expected net revenue over the horizon", "currency").unit
    'currency'
    """

    name: str
    type: Type
    meaning: str
    unit: str = ""
    required: bool = False
    formerly: str = ""


@dataclass(frozen=True)
class Table:
    """A named set of columns with the key that identifies a row inside one partition.

    Parameters
    ----------
    name : str
        Its name, in the lake and in queries.
    meaning : str
        What a row is, in words.
    columns : tuple of Column
        Its columns, in order.
    key : tuple of str, default ()
        The columns that identify a row inside one partition.
    stamp : str, optional
        The column that dates a row of an input table.
    dimensions : tuple of str, default ("day",)
        What a partition is of: `day`, `week`, and `table` or `family` where these are partitions of their own.

    Examples
    --------
    >>> visits = Table("visits", "one visit", (CUSTOMER_ID, Column("minutes", "double", "how long it took")))
    >>> visits.names
    ['customer_id', 'minutes']
    >>> visits.plus([Column("shop", "string", "where it was")])["shop"].meaning
    'where it was'
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    stamp: str | None = None
    dimensions: tuple[str, ...] = field(default=("day",))

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        return [column.name for column in self.columns]

    @property
    def subject(self) -> str:
        """The column that says whom a row is about: the first, which for most tables is the customer."""
        return self.columns[0].name

    @property
    def renamed(self) -> dict[str, str]:
        """Former name of each renamed column, with its name now."""
        return {column.formerly: column.name for column in self.columns if column.formerly}

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name}")

    def schema(self) -> pa.Schema:
        """Return the Arrow schema of one partition.

        Returns
        -------
        pa.Schema
            One field per column.
        """
        return pa.schema([pa.field(column.name, ARROW[column.type]) for column in self.columns])

    def empty(self) -> pa.Table:
        """Return one partition without rows.

        Returns
        -------
        pa.Table
            An empty table with `schema`.
        """
        return self.schema().empty_table()

    def plus(self, columns: Iterable[Column]) -> Table:
        """Append a project's own columns to the declared ones.

        Parameters
        ----------
        columns : iterable of Column
            The additional columns.

        Returns
        -------
        Table
            The same table with more columns.

        Raises
        ------
        ValueError
            If a name is already in use or given twice.
        """
        extra = tuple(columns)
        names = [column.name for column in extra]
        taken = {name for name in names if name in self.names or names.count(name) > 1}
        if taken:
            raise ValueError(f"{self.name} already has {', '.join(sorted(taken))}: choose another name")
        return replace(self, columns=self.columns + extra)

    def named(self, name: str) -> Table:
        """Rename the table.

        Parameters
        ----------
        name : str
            The new name.

        Returns
        -------
        Table
            The same columns under the new name.
        """
        return replace(self, name=name)

    def empty_days(self) -> pa.Table:
        """Return no rows, with the `day` column that per-customer tables carry between steps.

        Returns
        -------
        pa.Table
            An empty table with `schema` and `day`.
        """
        return self.schema().append(pa.field("day", pa.date32())).empty_table()

    def filled(self, rows: pa.Table, day: date | None = None) -> pa.Table:
        """Complete rows of an input table with every declared column, and the `day` of each row.

        Parameters
        ----------
        rows : pa.Table
            The available columns, by their declared names. A missing `day` is the stamp's calendar day.
        day : datetime.date, optional
            The day of rows that have neither: for customers without `registered_at`, the first day of the history.

        Returns
        -------
        pa.Table
            The declared columns in their order and types, null where `rows` lacks one, then `day`. Others are dropped.

        Raises
        ------
        ValueError
            If a required column is missing, or a row has no day: it would be lost without a word.
        """
        missing = [c.name for c in self.columns if c.required and c.name not in rows.column_names]
        if missing:
            raise ValueError(f"{self.name} lacks {', '.join(missing)}")
        schema = self.empty_days().schema
        columns = {
            f.name: rows[f.name] if f.name in rows.column_names else pa.nulls(rows.num_rows, f.type)
            for f in self.schema()
        }
        columns["day"] = rows["day"] if "day" in rows.column_names else columns[self.stamp or ""]
        filled = pa.table(columns).cast(schema)
        if undated := filled["day"].null_count:
            if day is None:
                raise ValueError(f"{undated:,} rows of {self.name} have no day: pass `day`, from which they count")
            position = filled.column_names.index("day")
            filled = filled.set_column(position, schema.field("day"), filled["day"].fill_null(day))
        return filled

    def conform(self, table: pa.Table) -> pa.Table:
        """Order and cast `table` to the declared columns, and drop all others.

        Parameters
        ----------
        table : pa.Table
            Rows with at least the declared columns.

        Returns
        -------
        pa.Table
            The same rows with `schema`.

        Raises
        ------
        ValueError
            If a declared column is missing.
        """
        missing = [name for name in self.names if name not in table.column_names]
        if missing:
            raise ValueError(f"{self.name} lacks {', '.join(missing)}")
        return table.select(self.names).cast(self.schema())


CUSTOMER_ID = Column("customer_id", "string", "who; the same id in every table", required=True)
