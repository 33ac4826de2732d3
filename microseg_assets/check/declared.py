"""What declared features hold for the customers of a sample, for `microseg check`.

Belongs here: computing them from the newest rows, and writing what they hold. Does not belong here: what a declaration
means (see `ml.features.declared`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from microseg_assets.project import Project
from ml.engine import in_memory
from ml.features import CustomerHistory
from ml.features.declared import DeclaredColumn, declared_columns
from ml.features.phrases import figure

SHOWN = 8  # columns of one declaration that are shown one by one
FREQUENT = 3  # values of a text that are shown


def sample(project: Project, accepted: Mapping[str, pa.Table]) -> tuple[date, pa.Table] | None:
    """The newest day of some accepted rows, and the snapshot of that day made from these rows alone.

    Parameters
    ----------
    accepted : input table to rows of its newest days

    Returns
    -------
    None if there are no transactions.
    """
    rows = {name: _typed(project, name, table) for name, table in accepted.items()}
    dated = [pc.max(rows[name]["day"]).as_py() for name in rows if name != "customers"]
    newest = max((day for day in dated if day is not None), default=None)
    if newest is None or "transactions" not in rows:
        return None
    history = CustomerHistory.from_rows(in_memory(), project.feature_spec, **rows)
    return newest, history.snapshot_of(newest)


def _typed(project: Project, name: str, rows: pa.Table) -> pa.Table:
    schema = project.inputs[name].schema().append(pa.field("day", pa.date32()))
    return rows.select(schema.names).cast(schema)


def lines(project: Project, snapshot: pa.Table) -> Iterator[str]:
    """What each column holds: a line for each of the first of a declaration, and one about the others."""
    spec = project.feature_spec.declared
    columns = declared_columns(spec)
    for position in range(len(project.features.declared)):
        own = [column for column in columns if column.declaration == position]
        shown = own if len(own) <= SHOWN + 1 else own[:SHOWN]
        for column in shown:
            yield f"{column.name:28} {_content(column, snapshot[column.name])}"
        if rest := own[len(shown) :]:
            empty = [column.name for column in rest if _is_empty(snapshot[column.name])]
            missing = sorted(_missing(snapshot[column.name]) for column in rest)
            span = f"{missing[0]:.0%} to {missing[-1]:.0%}" if missing[-1] > missing[0] else f"{missing[0]:.0%}"
            nothing = f"; nothing in the sample: {', '.join(empty)}" if empty else ""
            yield f"… and {len(rest)} more up to {rest[-1].name}: missing for {span}{nothing}"


def without_content(project: Project, snapshot: pa.Table) -> list[int]:
    """The positions of declarations that hold nothing but 0 or missing values in the sample, whatever the window."""
    columns = declared_columns(project.feature_spec.declared)
    holding = {column.declaration for column in columns if not _is_empty(snapshot[column.name])}
    return [position for position in range(len(project.features.declared)) if position not in holding]


def _content(column: DeclaredColumn, values: pa.ChunkedArray) -> str:
    if not len(values):
        return "no customer in the sample"
    missing = f"missing for {_missing(values):.0%}"
    if values.null_count == len(values):
        return f"{missing}: nothing in the sample"
    if column.column.type in ("string", "boolean"):
        counts = sorted(pc.value_counts(values.drop_null()).to_pylist(), key=lambda one: -one["counts"])
        frequent = ", ".join(f"{one['values']} {one['counts'] / len(values):.0%}" for one in counts[:FREQUENT])
        return f"{frequent}{f' and {len(counts) - FREQUENT} more' if len(counts) > FREQUENT else ''}; {missing}"
    ends = pc.min_max(values).as_py()
    if ends["min"] == ends["max"]:
        return f"always {_number(ends['min'])}; {missing}"
    mean = pc.mean(values).as_py()
    return f"{_number(ends['min'])} to {_number(ends['max'])}, {_number(mean)} on average; {missing}"


def _is_empty(values: pa.ChunkedArray) -> bool:
    """Whether it says nothing: missing or 0 for everybody."""
    return bool(values.null_count == len(values) or pc.unique(values.drop_null()).to_pylist() == [0])


def _missing(values: pa.ChunkedArray) -> float:
    return values.null_count / max(len(values), 1)


def _number(value: float) -> str:
    return figure("", value)


def names(project: Project) -> list[str]:
    """The features that the project file declares; not those of what is mapped."""
    own = len(project.features.declared)
    return [one.name for one in declared_columns(project.feature_spec.declared) if one.declaration < own]
