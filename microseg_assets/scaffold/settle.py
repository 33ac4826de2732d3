"""The changes that a profile of the assigned tables calls for, before anything is written.

Belongs here: merging ids where that can be checked, leaving out attributes that leak the future, and ids of nobody.
Does not belong here: observing these (see `ml.profile`), and the words (see `advice`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from microseg_assets.check.advice import column_sql
from microseg_assets.check.profile import Opened, observe_sources
from microseg_assets.scaffold.assign import BEFORE_ALL, Assignment, attribute_names, source_of, try_guess
from microseg_assets.scaffold.infer import Guess
from microseg_assets.sources import SourceError
from ml.profile import Code, Observation
from ml.profile.ids import FORMS, merged_sql

MAX_ROUNDED_SHARE = 0.5  # share of the rows with rounded ids, from which on they are not left out


@dataclass(frozen=True)
class Draft:
    """The tables as they will be written.

    Parameters
    ----------
    observations : what the user should look at
    foretelling : source columns of `customers` that leak the future, with the observation; they become no attributes
    not_customers : ids of nobody
    doubtful : ids that may belong to many customers
    without_rounded : whether rows of rounded ids are left out
    """

    tables: Mapping[str, Assignment]
    observations: Sequence[Observation] = ()
    foretelling: Mapping[str, Observation] = field(default_factory=dict)
    not_customers: Sequence[str] = ()
    doubtful: Sequence[str] = ()
    without_rounded: bool = False

    def answers(self, observation: Observation) -> bool:
        """Whether the project file that will be written answers an observation."""
        match observation.code:
            case Code.PLACEHOLDER_IDS | Code.STRAY_DAYS | Code.FUTURE_ROWS | Code.FORETELLING:
                return True
            case Code.ROUNDED_IDS:
                return self.without_rounded
        return False

    def ids(self) -> dict[str, str]:
        """Table to its `customer_id` as SQL of a text."""
        return {name: _id_sql(table) for name, table in self.tables.items() if "customer_id" in table.guess.columns}


def settle_tables(tables: Mapping[str, Assignment], folder: Path) -> Draft:
    """Make the changes that a profile of the tables calls for; none if they cannot be read."""
    try:
        seen = first = _observe(tables, folder)
        changed = _with_merged_ids(tables, seen, folder)
        if changed is not tables:
            seen = _observe(changed, folder)
    except SourceError:
        return Draft(tables, _new_columns(tables))
    named = {name: source for source, name in _attribute_names(changed).items()}
    foretelling = {named[one["attribute"]]: one for one in seen if one.code is Code.FORETELLING}
    if foretelling:
        changed = {**changed, "customers": _without(changed["customers"], foretelling)}
    listed = [id_ for one in seen if one.code is Code.PLACEHOLDER_IDS for id_ in one["ids"]]
    # `0000` is 0 once leading zeros are removed; that it is nobody is observed before.
    zeros = [id_ for one in first if one.code is Code.PLACEHOLDER_IDS for id_ in one["ids"] if not id_.strip("0")]
    listed += ["0"] if zeros and changed is not tables else zeros
    seen = [*_new_columns(changed), *(one for one in seen if one.code is not Code.FORETELLING)]
    return Draft(
        changed,
        seen,
        foretelling,
        list(dict.fromkeys(listed)),
        list(dict.fromkeys(one["id"] for one in seen if one.code is Code.HEAVY_ID)),
        any(one.code is Code.ROUNDED_IDS and one["share"] < MAX_ROUNDED_SHARE for one in seen),
    )


def _observe(tables: Mapping[str, Assignment], folder: Path) -> list[Observation]:
    opened = {
        name: Opened(source_of(name, table, folder), table.days or {BEFORE_ALL: table.delivery.rows})
        for name, table in tables.items()
        if not table.guess.lacks and not table.problems and (table.days or name == "customers")
    }
    return observe_sources(opened, zone="UTC")


def _new_columns(tables: Mapping[str, Assignment]) -> list[Observation]:
    """Columns that only some files of a table have."""
    return [
        Observation(
            Code.NEW_COLUMN, name,
            {"column": column, "files": files, "of": len(table.delivery.files), "first": first},
        )
        for name, table in tables.items()
        for column, (files, first) in table.delivery.partial.items()
    ]  # fmt: skip


def _attribute_names(tables: Mapping[str, Assignment]) -> dict[str, str]:
    return attribute_names(tables["customers"].guess) if "customers" in tables else {}


def _with_merged_ids(
    tables: Mapping[str, Assignment], seen: Sequence[Observation], folder: Path
) -> Mapping[str, Assignment]:
    """The tables with ids in a common form; the same object if nothing has to change."""
    forms: dict[str, tuple[str, str]] = {}
    for one in seen:
        if one.code is Code.SPELLINGS:
            note = f"{one['ids']:,} spellings of {one['customers']:,} ids"
            forms[one.table] = (merged_sql(tuple(one["kinds"]), _id_sql(tables[one.table])), note)
    for one in seen:
        if one.code is Code.IDS_DO_NOT_MEET and one["form"]:
            for table in one["apply"]:
                inner = forms[table][0] if table in forms else _id_sql(tables[table])
                matches = f"{one['known_united']:,} of {one['ids']:,} ids of {one.table} match those of {one['other']}"
                note = f"so {matches}, unchanged {one['known']:,}"
                forms[table] = (FORMS[one["form"]].replace("{id}", inner), note)
    if not forms:
        return tables
    changed = dict(tables)
    for table, (expression, note) in forms.items():
        guess = _mapped(tables[table].guess, expression, note)
        changed[table] = try_guess(table, guess, tables[table].delivery, folder)
    return tables if any(table.problems for table in changed.values()) else changed


def _mapped(guess: Guess, expression: str, note: str) -> Guess:
    reading = replace(guess.columns["customer_id"], expression=expression, note=note)
    return replace(guess, columns={**guess.columns, "customer_id": reading})


def _id_sql(table: Assignment) -> str:
    reading = table.guess.columns["customer_id"]
    seen = next(column for column in table.delivery.columns if column.name == reading.uses[0])
    if reading.expression != seen.name:
        return reading.expression
    return column_sql(seen.name) if seen.is_text else f"CAST({column_sql(seen.name)} AS VARCHAR)"


def _without(customers: Assignment, foretelling: Mapping[str, Observation]) -> Assignment:
    attributes = {name: type_ for name, type_ in customers.guess.attributes.items() if name not in foretelling}
    return replace(customers, guess=replace(customers.guess, attributes=attributes))
