"""Files, folders, databases → rows of a day, mapped to the contract of their table.

Belongs here: finding the files, reading them whatever their state, the user's query and column mapping, what a stamp
means and which day a row belongs to. Does not belong here: whether a row is acceptable (see `expectations`), and
Dagster.

Nothing a file can hold is lost or fatal. A value that cannot be converted makes its row carry a `problem`; a row
without a day, or dated before the project began, is `undated`; a line that is no row at all is undated too. Only what
makes the whole source unusable (a missing file, a missing column, an expression that means nothing) is an error, and
all such problems are told at once.

A `TableSpec` says where rows are and how they map (`spec`). `locate` finds the files, `lines` puts right text files
whose lines end in two ways and tells of damaged ones, `read` makes SQL views of them, `query` accepts the user's SQL,
`mapping` binds it to the contract, and `plan` puts these together. `stamps` says
how a moment is written, `values` what a value means, `ids` follows a map of ids, `rows` writes the
one query, `arrivals` says in two figures what a day was delivered, `undated` which days a row without one may belong
to, and a `Source` returns all of it.
"""

from microseg_assets.sources.arrivals import Arrival, Change, changes, days_told, dropped
from microseg_assets.sources.locate import locate
from microseg_assets.sources.query import checked_query
from microseg_assets.sources.source import Drift, Source
from microseg_assets.sources.spec import (
    EARLY,
    IdsSpec,
    Problem,
    SourceError,
    SourceSpec,
    TableSpec,
    input_table,
)

__all__ = [
    "EARLY", "Arrival", "Change", "Drift", "IdsSpec", "Problem", "Source", "SourceError", "SourceSpec",
    "TableSpec", "changes", "checked_query", "days_told", "dropped", "input_table", "locate",
]  # fmt: skip
