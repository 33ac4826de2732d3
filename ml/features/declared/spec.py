"""What a project declares of its own features.

Belongs here: the typed declarations, and what each checks of itself. Does not belong here: which columns they become
(see `columns`), what they must satisfy together (see `checks`), and the tables' columns (see `ml.tables`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ml import tables
from ml.tables import Table

Measure: TypeAlias = Literal[
    "count", "sum", "mean", "min", "max", "days", "distinct", "share", "first", "last", "mode", "days_since"
]
Window: TypeAlias = int | Literal["ever"]
Value: TypeAlias = str | bool | int | float
EVER: Literal["ever"] = "ever"
DATED = ("transactions", "events", "exposures", "balances")  # input tables whose rows have a day of their own


@dataclass(frozen=True)
class By:
    """One feature for each of some values of a column.

    Parameters
    ----------
    column : str
        Column of the feature's table.
    values : tuple of str, bool, int or float
        The values. They are declared, not learnt, so no later day can leak into them.

    Examples
    --------
    >>> By("device", ("phone", "tablet")).values
    ('phone', 'tablet')
    """

    column: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Ratio:
    """One feature divided by another.

    Parameters
    ----------
    of : str
        The feature that is divided.
    to : str
        The feature by which it is divided; where it is missing or 0, so is the ratio missing.

    Examples
    --------
    >>> Ratio("carts_28d", "visits_28d").to
    'visits_28d'
    """

    of: str
    to: str


@dataclass(frozen=True)
class DeclaredFeature:
    """One declaration: a feature, or several that differ in measure, window or value of a column.

    Parameters
    ----------
    name : str
        Beginning of the columns' names.
    table : {"transactions", "events", "exposures", "balances"}, optional
        Input table whose rows are measured. None for a ratio.
    where : str
        SQL predicate over one row: only rows for which it holds are measured. All rows, if empty.
    measure : str or tuple of str
        What is measured: ``count`` of the rows; ``sum``, ``mean``, ``min`` or ``max`` of a number; ``days`` with a row;
        ``distinct`` values; ``share`` of the rows, or of a number; ``first``, ``last`` or most frequent value
        (``mode``); ``days_since`` the last row. Several in a list: one feature each.
    of : str
        SQL expression over one row that is summed, compared or counted.
    windows : int or "ever", or a tuple of them
        Days that count, up to and including the day of the snapshot: one feature each.
    by : By, optional
        One feature for each value of a column.
    ratio : Ratio, optional
        The two features that are divided; `windows` then stands for the windows of both.
    description : str
        What the feature says, in words.

    Examples
    --------
    >>> DeclaredFeature("carts", "events", "event_type = 'cart'", windows=(7, 28)).measures
    ('count',)
    """

    name: str
    table: Literal["transactions", "events", "exposures", "balances"] | None = None
    where: str = ""
    measure: Measure | tuple[Measure, ...] = "count"
    of: str = ""
    windows: Window | tuple[Window, ...] = EVER
    by: By | None = None
    ratio: Ratio | None = None
    description: str = ""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures, also if there is only one."""
        return self.measure if isinstance(self.measure, tuple) else (self.measure,)

    @property
    def spans(self) -> tuple[Window, ...]:
        """The windows, also if there is only one."""
        return self.windows if isinstance(self.windows, tuple) else (self.windows,)


@dataclass(frozen=True)
class DeclaredSpec:
    """The features that a project declares, and the input tables that they measure.

    Parameters
    ----------
    features : tuple of DeclaredFeature
        The declarations.
    inputs : tuple of Table
        Input tables with the project's own columns. By default the tables of the contract.

    Examples
    --------
    >>> spec = DeclaredSpec((DeclaredFeature("carts", "events", "event_type = 'cart'"),))
    >>> spec.tables
    ('events',)
    """

    features: tuple[DeclaredFeature, ...] = ()
    inputs: tuple[Table, ...] = field(default=tuple(tables.INPUTS[name] for name in DATED))

    def __bool__(self) -> bool:
        return bool(self.features)

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the input tables that the declarations measure, each once."""
        return tuple(dict.fromkeys(one.table for one in self.features if one.table is not None))

    def input(self, name: str) -> Table:
        """Look up an input table with the project's own columns.

        Parameters
        ----------
        name : str
            Name of the table.

        Returns
        -------
        Table
            The table.

        Raises
        ------
        KeyError
            If there is none of this name.
        """
        for table in self.inputs:
            if table.name == name:
                return table
        raise KeyError(f"{name} is not an input table of dated rows")

    def types(self, name: str) -> dict[str, str]:
        """The columns that expressions over an input table may use.

        Parameters
        ----------
        name : str
            Name of the table.

        Returns
        -------
        dict of str to str
            Column to type, as `ml.tables` calls it; `day` is the project's calendar day of the row.
        """
        return {**{column.name: column.type for column in self.input(name).columns}, "day": "date"}
