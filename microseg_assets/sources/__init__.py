"""Files, folders, databases → rows of a day, mapped to the contract of their table.

Belongs here: finding the files, reading them whatever their state, the user's query and column mapping, what a
timestamp means and which day a row belongs to. Does not belong here: whether a row is acceptable (see `expectations`),
and Dagster.

Nothing in a file is lost or fatal. A row with a value that cannot be converted has a `problem`; a row without a day, or
dated before the project's start, is `undated`, and so is a line that is not a row. Only what makes the whole source
unusable (a missing file, a missing column, an invalid expression) is an error, and all such problems are reported at
once.

A `TableSpec` declares where rows are and how they map (`spec`). `locate` finds the files, `lines` repairs text files
with mixed line endings and reports damaged ones, `read` creates SQL views of them, `query` accepts the user's SQL,
`mapping` binds it to the contract, and `plan` combines these. `stamps` defines how timestamps are written, `values`
what a value means, `ids` follows a map of ids, `rows` writes the one query, `arrivals` summarizes what was delivered
for a day, `undated` determines the days that a row without one may belong to, and a `Source` returns all of it.
"""

from microseg_assets.sources.arrivals import Arrival, Change, changes, dropped, list_days
from microseg_assets.sources.locate import locate
from microseg_assets.sources.query import parse_query
from microseg_assets.sources.source import Drift, Source
from microseg_assets.sources.spec import (
    EARLY,
    ContextSpec,
    IdsSpec,
    Problem,
    SourceError,
    SourceSpec,
    TableSpec,
    input_table,
)

__all__ = [
    "EARLY",
    "Arrival",
    "Change",
    "ContextSpec",
    "Drift",
    "IdsSpec",
    "Problem",
    "Source",
    "SourceError",
    "SourceSpec",
    "TableSpec",
    "changes",
    "dropped",
    "input_table",
    "list_days",
    "locate",
    "parse_query",
]  # fmt: skip
