"""What the profile of the chosen tables changes about them, before anything is written.

Belongs here: ids united where that can be checked, attributes that foretell the past left out, ids that are nobody.
Does not belong here: finding these (see `ml.profile`), and the words (see `advice`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from microseg_assets.check.advice import column_sql
from microseg_assets.check.profile import Opened, observe_sources
from microseg_assets.scaffold.assign import BEFORE_ALL, Found, attribute_names, read, source_of
from microseg_assets.scaffold.infer import Guess
from microseg_assets.sources import SourceError
from ml.profile import Code, Observation
from ml.profile.ids import FORMS, merged_sql

MOST_ROUNDED = 0.5  # share of the rows above which rounded ids are all there is


@dataclass(frozen=True)
class Settled:
    """The tables as they are written.

    Parameters
    ----------
    observations : what is left to be looked at
    foretelling : source columns of `customers` that are no attributes, with what was seen of them
    not_customers : ids that are nobody
    doubtful : ids that may be many customers
    without_rounded : whether rows of rounded ids are left out
    """

    found: Mapping[str, Found]
    observations: Sequence[Observation] = ()
    foretelling: Mapping[str, Observation] = field(default_factory=dict)
    not_customers: Sequence[str] = ()
    doubtful: Sequence[str] = ()
    without_rounded: bool = False

    def answers(self, one: Observation) -> bool:
        """Whether the file that is written has the answer already."""
        match one.code:
            case Code.PLACEHOLDER_IDS | Code.STRAY_DAYS | Code.FUTURE_ROWS | Code.FORETELLING:
                return True
            case Code.ROUNDED_IDS:
                return self.without_rounded
        return False

    def ids(self) -> dict[str, str]:
        """Table to its `customer_id` as SQL of a text."""
        return {table: _id_sql(one) for table, one in self.found.items() if "customer_id" in one.guess.columns}


def settled(found: Mapping[str, Found], folder: Path) -> Settled:
    """The tables with what their profile changes about them; as they are, if they cannot be read."""
    try:
        seen = first = _look(found, folder)
        changed = _with_ids(found, seen, folder)
        if changed is not found:
            seen = _look(changed, folder)
    except SourceError:
        return Settled(found, _new_columns(found))
    named = {name: source for source, name in _attribute_names(changed).items()}
    foretelling = {named[one["attribute"]]: one for one in seen if one.code is Code.FORETELLING}
    if foretelling:
        changed = {**changed, "customers": _without(changed["customers"], foretelling)}
    listed = [id_ for one in seen if one.code is Code.PLACEHOLDER_IDS for id_ in one["ids"]]
    # `0000` is 0 where zeros in front do not count; that it is nobody is seen before.
    zeros = [id_ for one in first if one.code is Code.PLACEHOLDER_IDS for id_ in one["ids"] if not id_.strip("0")]
    listed += ["0"] if zeros and changed is not found else zeros
    seen = [*_new_columns(changed), *(one for one in seen if one.code is not Code.FORETELLING)]
    return Settled(
        changed,
        seen,
        foretelling,
        list(dict.fromkeys(listed)),
        list(dict.fromkeys(one["id"] for one in seen if one.code is Code.HEAVY_ID)),
        any(one.code is Code.ROUNDED_IDS and one["share"] < MOST_ROUNDED for one in seen),
    )


def _look(found: Mapping[str, Found], folder: Path) -> list[Observation]:
    opened = {
        table: Opened(source_of(table, one, folder), one.days or {BEFORE_ALL: one.delivery.rows})
        for table, one in found.items()
        if not one.guess.lacks and not one.problems and (one.days or table == "customers")
    }
    return observe_sources(opened, zone="UTC")


def _new_columns(found: Mapping[str, Found]) -> list[Observation]:
    """Columns that only some files of a table have."""
    return [
        Observation(
            Code.NEW_COLUMN, table,
            {"column": column, "files": files, "of": len(one.delivery.files), "first": first},
        )
        for table, one in found.items()
        for column, (files, first) in one.delivery.partial.items()
    ]  # fmt: skip


def _attribute_names(found: Mapping[str, Found]) -> dict[str, str]:
    return attribute_names(found["customers"].guess) if "customers" in found else {}


def _with_ids(found: Mapping[str, Found], seen: Sequence[Observation], folder: Path) -> Mapping[str, Found]:
    """The tables with ids that are written alike; the same object where nothing has to change."""
    forms: dict[str, tuple[str, str]] = {}
    for one in seen:
        if one.code is Code.SPELLINGS:
            said = f"{one['ids']:,} spellings of {one['customers']:,} ids"
            forms[one.table] = (merged_sql(tuple(one["kinds"]), _id_sql(found[one.table])), said)
    for one in seen:
        if one.code is Code.IDS_DO_NOT_MEET and one["form"]:
            for table in one["apply"]:
                inner = forms[table][0] if table in forms else _id_sql(found[table])
                said = f"so {one['known_united']:,} of {one['ids']:,} ids of {one.table} meet those of {one['other']}"
                forms[table] = (FORMS[one["form"]].replace("{id}", inner), f"{said}, as they stand {one['known']:,}")
    if not forms:
        return found
    changed = dict(found)
    for table, (expression, note) in forms.items():
        changed[table] = read(table, _mapped(found[table].guess, expression, note), found[table].delivery, folder)
    return found if any(one.problems for one in changed.values()) else changed


def _mapped(guess: Guess, expression: str, note: str) -> Guess:
    reading = replace(guess.columns["customer_id"], expression=expression, note=note)
    return replace(guess, columns={**guess.columns, "customer_id": reading})


def _id_sql(found: Found) -> str:
    reading = found.guess.columns["customer_id"]
    seen = next(one for one in found.delivery.columns if one.name == reading.uses[0])
    if reading.expression != seen.name:
        return reading.expression
    return column_sql(seen.name) if seen.is_text else f"CAST({column_sql(seen.name)} AS VARCHAR)"


def _without(customers: Found, foretelling: Mapping[str, Observation]) -> Found:
    kept = {name: type_ for name, type_ in customers.guess.attributes.items() if name not in foretelling}
    return replace(customers, guess=replace(customers.guess, attributes=kept))
