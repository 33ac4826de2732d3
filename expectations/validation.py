"""The verdict on delivered rows: which are accepted, which are refused and why, and which days pass.

Belongs here: putting row rules, suites and what is known from before together for the days of one run. Every row is
accepted or refused, never lost; a day is judged by its own rows and by days before it, so its verdict is the same alone
or in a range. Does not belong here: the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from expectations import suites
from expectations.days import can_refuse, judge_days
from expectations.duplicates import ID, Repeats, repeats
from expectations.measures import measure
from expectations.past import Past
from expectations.profiles import profile
from expectations.rules import ValidationSpec, duplicate_rule, row_rules, unique_key
from expectations.verdicts import Verdict, row_verdicts, stamps
from ml.engine import quoted
from ml.tables import QUARANTINE, Table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ml.engine import Engine


@dataclass(frozen=True)
class Validation:
    """`accepted`: the contract's columns and `day`; `refused`: those of `quarantine` and `day`; `profiles`: those of
    `input_profiles` and `day`, of the accepted rows, where the past is known."""

    accepted: pa.Table
    refused: pa.Table
    verdicts: dict[date, Verdict]
    profiles: pa.Table | None = None


def validate(
    engine: Engine, table: Table, rows: pa.Table, days: Sequence[date], spec: ValidationSpec, past: Past | None = None
) -> Validation:
    """Judge the delivered rows of several days.

    Parameters
    ----------
    rows : as a source gives them: the contract's columns, `day`, `source`, `problem`, `delivered`
    days : the days of the run; one that brought no row has a verdict too
    past : what is known from before the first of them, which nothing may lie between; without it, rows alone are
        judged, each day's by themselves

    Raises
    ------
    ValueError
        If a row belongs to none of `days`.
    """
    counts = _counts(rows["day"])
    strangers = sorted(set(counts) - set(days), key=str)
    if strangers:
        raise ValueError(f"{table.name}: rows of {strangers[0]} among those of {len(days)} other days")
    judged = _judged(engine, table, rows, spec)
    run = _Run(engine, table, rows, sorted(set(days)), spec, past, counts, judged, _batch(table, spec, rows, judged))
    if past is None:
        return Validation(run.accepted([]), run.refused([]), run.by_rows([]))
    candidates = repeats(engine, table, run.candidates(), past.ids)
    failed, late = _settled(run, candidates)
    verdicts, profiles = run.by_measures(run.by_rows(late), late, failed)
    return Validation(run.accepted(late), run.refused(late), verdicts, profiles)


def _settled(run: _Run, candidates: Repeats) -> tuple[set[date], Sequence[int]]:
    """The days that are refused, and the rows that repeat one of an earlier accepted day.

    Whether a day passes can decide over later ones: its rows are accepted, or they are not there to be repeated and
    compared with. So the first day that fails is settled before those after it are judged again; what nothing hangs on
    is settled at once.
    """
    blocking, can_be_unusual = candidates.blocking(), can_refuse(run.table, run.spec)
    failed: set[date] = set()
    while True:
        late: list[int] = candidates.refused(failed).tolist()
        verdicts = run.by_rows(late)
        if can_be_unusual:
            verdicts, _ = run.by_measures(verdicts, late, failed)
        failing = [day for day in run.days if not verdicts[day].passed and day not in failed]
        if not failing:
            return failed, late
        deciding = (i for i, day in enumerate(failing) if can_be_unusual or day in blocking)
        failed |= set(failing[: next(deciding, len(failing)) + 1])


@dataclass
class _Run:
    """The rows of one run, and what was found out about them; `late` are rows that repeat an earlier day's."""

    engine: Engine
    table: Table
    rows: pa.Table
    days: Sequence[date]
    spec: ValidationSpec
    past: Past | None
    counts: dict[date | None, int]
    judged: pa.Table
    batch: pd.DataFrame
    _late: set[int] | None = None
    _verdicts: dict[date, Verdict] = field(default_factory=dict)
    _accepted: tuple[set[int], pa.Table] | None = None
    _profile: tuple[set[int], pa.Table] | None = None

    def candidates(self) -> pa.Table:
        """Number, day and id of the rows that no rule has refused."""
        if ID not in self.table.names or self.rows[ID].null_count == self.rows.num_rows:
            return self.rows.slice(0, 0)
        numbered = _numbered(self.rows.select(["day", ID]))
        return _without(numbered, self.judged["row_number"].to_numpy())

    def by_rows(self, late: Sequence[int]) -> dict[date, Verdict]:
        """The verdicts on the rows alone; only days for which `late` has changed are judged anew."""
        changed = set(late) if self._late is None else self._late ^ set(late)
        if self._late is not None and not changed:
            return dict(self._verdicts)
        rule = duplicate_rule(self.table)
        if changed:
            counts = self.spec.severity.get(rule or "", "error") == "error"
            self.batch.loc[sorted(changed & set(late)), suites.REFUSED_BY] = 1.0 if counts else float("nan")
            self.batch.loc[sorted(changed - set(late)), suites.REFUSED_BY] = float("nan")
        days, batch = self.days, self.batch
        if self._late is not None:
            days = sorted(set(self._days_of(changed)))
            batch = batch[batch["day"].isin(stamps(days))]
        rules: dict[date, dict[str, int]] = {}
        by_rule = self.judged.group_by(["day", "rule"]).aggregate([([], "count_all")])
        for entry in by_rule.sort_by([("day", "ascending"), ("rule", "ascending")]).to_pylist():
            rules.setdefault(entry["day"], {})[entry["rule"]] = entry["count_all"]
        for day in self._days_of(set(late)):
            of_day = rules.setdefault(day, {})
            of_day[rule or ""] = of_day.get(rule or "", 0) + 1
        rules = {day: dict(sorted(found.items())) for day, found in rules.items() if day in set(days)}
        self._verdicts |= row_verdicts(self.table, self.spec, batch, days, self.counts, rules)
        self._late = set(late)
        return dict(self._verdicts)

    def by_measures(
        self, verdicts: dict[date, Verdict], late: Sequence[int], failed: set[date]
    ) -> tuple[dict[date, Verdict], pa.Table]:
        """The verdicts with the measures of each day, and the days' profiles."""
        assert self.past is not None
        accepted = self.accepted(late)
        if self._profile is None or self._profile[0] != set(late):
            self._profile = set(late), profile(self.engine, self.table, accepted)
        profiles = self._profile[1]
        measures = measure(self.engine, self.table, accepted, profiles, self.days, self.spec, self.past, failed)
        told = judge_days(self.table, self.spec, measures)
        return {day: verdict.measured(told[day]) for day, verdict in verdicts.items()}, profiles

    def accepted(self, late: Sequence[int]) -> pa.Table:
        import numpy as np

        if self._accepted is None or self._accepted[0] != set(late):
            numbers = np.concatenate([self.judged["row_number"].to_numpy(), np.asarray(late, dtype=np.int64)])
            kept = _without(self.rows.select([*self.table.names, "day"]), numbers)
            self._accepted = set(late), kept
        return self._accepted[1]

    def refused(self, late: Sequence[int]) -> pa.Table:
        found = self.judged
        if len(late):
            repeated = self.rows.take(pa.array(late, pa.int64()))
            told = pa.array([duplicate_rule(self.table)] * len(late), pa.string())
            repeated = repeated.set_column(repeated.column_names.index("problem"), "problem", told)
            repeated = repeated.append_column("row_number", pa.array(late, pa.int64()))
            told_of = self.engine.query(_query(self.table, self.spec, repeated), rows=repeated)
            found = pa.concat_tables([found, told_of]).sort_by([("day", "ascending"), ("row_number", "ascending")])
        schema = pa.schema([*QUARANTINE.schema(), pa.field("day", pa.date32())])
        return found.select(schema.names).cast(schema)

    def _days_of(self, numbers: set[int]) -> list[date]:
        found: list[date] = self.rows["day"].take(pa.array(sorted(numbers), pa.int64())).to_pylist()
        return found


def judge_rows(engine: Engine, table: Table, rows: pa.Table, spec: ValidationSpec) -> pd.DataFrame:
    """Delivered rows with the rule that refuses them in `refused_by`, if it counts, as a person wants to see them."""
    import numpy as np
    import pandas as pd

    judged = _judged(engine, table, rows, spec)
    frame: pd.DataFrame = rows.select([*table.names, "day"]).to_pandas(date_as_object=False)
    by = np.full(rows.num_rows, None, dtype=object)
    by[judged["row_number"].to_numpy()] = [
        rule if spec.severity.get(rule, "error") == "error" else None for rule in judged["rule"].to_pylist()
    ]
    frame[suites.REFUSED_BY] = pd.Series(by, dtype="str")
    return frame


def _judged(engine: Engine, table: Table, rows: pa.Table, spec: ValidationSpec) -> pa.Table:
    return engine.query(_query(table, spec, rows), rows=_numbered(rows))


def _numbered(rows: pa.Table) -> pa.Table:
    import numpy as np

    return rows.append_column("row_number", pa.array(np.arange(rows.num_rows, dtype=np.int64)))


def _counts(days: pa.ChunkedArray) -> dict[date | None, int]:
    return {entry["values"].as_py(): entry["counts"].as_py() for entry in pc.value_counts(days)}


def _query(table: Table, spec: ValidationSpec, rows: pa.Table) -> str:
    """The refused rows: their number, the first rule they break, and the row as JSON."""
    cases = " ".join(f"WHEN {rule.broken} THEN {_text(rule.name)}" for rule in row_rules(table, spec))
    key, repeated = unique_key(table), duplicate_rule(table)
    columns = ", ".join(map(quoted, table.names))
    steps = [f"judged AS (SELECT *, CASE WHEN problem IS NOT NULL THEN problem {cases} END AS broken FROM rows)"]
    last = "judged"
    if repeated and not any(rows[name].null_count == rows.num_rows for name in key):
        keys = ", ".join(map(quoted, key))
        present = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in key)
        nth = f"row_number() OVER (PARTITION BY day, broken IS NULL, {keys} ORDER BY {columns}, source)"
        told = f"CASE WHEN nth > 1 THEN {_text(repeated)} ELSE broken END"
        steps.append(f"ranked AS (SELECT *, CASE WHEN broken IS NULL AND {present} THEN {nth} END AS nth FROM judged)")
        steps.append(f"unique_rows AS (SELECT * REPLACE ({told} AS broken) FROM ranked)")
        last = "unique_rows"
    values = ", ".join(f"{quoted(name)} := {_json_value(table, name)}" for name in table.names)
    return (
        f'WITH {", ".join(steps)} SELECT row_number, {_text(table.name)} AS "table", broken AS rule, '
        f"coalesce(delivered, CAST(to_json(struct_pack({values})) AS VARCHAR)) AS row, "
        f"coalesce(source, '') AS source, day FROM {last} WHERE broken IS NOT NULL ORDER BY day, row_number"
    )


def _json_value(table: Table, name: str) -> str:
    """JSON has no NaN and no infinity: such a number is shown as text."""
    column = quoted(name)
    if table[name].type == "double":
        return f"CASE WHEN isfinite({column}) THEN to_json({column}) ELSE to_json(CAST({column} AS VARCHAR)) END"
    return column


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _without(rows: pa.Table, numbers: np.ndarray) -> pa.Table:
    if not len(numbers):
        return rows
    import numpy as np

    keep = np.ones(rows.num_rows, dtype=bool)
    keep[numbers] = False
    return rows.filter(pa.array(keep))


def _batch(table: Table, spec: ValidationSpec, rows: pa.Table, judged: pa.Table) -> pd.DataFrame:
    """What the suite is asked about: the columns, and whether a row was refused by a rule that counts.

    Great Expectations hashes all it is given, and text is dear to hash. All that is expected of text is to be there
    and, of keys, to be unique; so numbers stand for texts: equal ones for equal texts, none for a missing one. Columns
    of which nothing is expected are there, and empty.
    """
    import numpy as np
    import pandas as pd

    looked_at = suites.columns(suites.suite(table, spec))
    frame: dict[str, pd.Series | np.ndarray] = {}
    for name in table.names:
        column = rows[name]
        is_text = pa.types.is_string(column.type)
        codes = column.combine_chunks().dictionary_encode().indices if is_text and name in looked_at else column
        frame[name] = codes.to_pandas() if name in looked_at else np.full(rows.num_rows, np.nan)
    frame["day"] = rows["day"].to_pandas(date_as_object=False)
    counts = np.array([spec.severity.get(rule, "error") == "error" for rule in judged["rule"].to_pylist()], dtype=bool)
    refused = np.full(rows.num_rows, np.nan)
    refused[judged["row_number"].to_numpy()[counts]] = 1.0
    frame[suites.REFUSED_BY] = pd.Series(refused)
    return pd.DataFrame(frame)
