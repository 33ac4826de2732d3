"""The verdict on delivered rows: which are accepted, which are refused and why, and which days pass.

Belongs here: combining row rules, suites and what is known from earlier days for the days of one run. Every row is
accepted or refused, never lost; a day is judged by its own rows and the days before it, so its verdict is the same
alone or in a range. Does not belong here: the rules.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

import expectations.suites as suites
from expectations.days import Measurement, can_refuse, judge_days
from expectations.duplicates import ID, Repeats, repeats
from expectations.measures import measure
from expectations.past import Past
from expectations.profiles import profile
from expectations.references import count_unknown_customers
from expectations.refusals import batch, content_columns, drop_rows, refusals_sql, refused_rows, with_row_numbers
from expectations.rules import ValidationSpec, duplicate_rule
from expectations.verdicts import Verdict, row_verdicts, stamps
from ml.tables import QUARANTINE, Table

if TYPE_CHECKING:
    import pandas as pd

    from ml.engine import Engine

Late: TypeAlias = Mapping[int, bool]  # row that repeats one of an earlier day, to whether its content differs


@dataclass(frozen=True)
class Validation:
    """`accepted`: the contract's columns and `day`; `refused`: those of `quarantine` and `day`; `profiles`: those of
    `input_profiles` and `day`, of the accepted rows, where the past is known."""

    accepted: pa.Table
    refused: pa.Table
    verdicts: dict[date, Verdict]
    profiles: pa.Table | None = None


def validate(
    engine: Engine,
    table: Table,
    rows: pa.Table,
    days: Sequence[date],
    spec: ValidationSpec,
    past: Past | None = None,
    undated: Mapping[date, int] = MappingProxyType({}),
) -> Validation:
    """Judge the delivered rows of several days.

    Parameters
    ----------
    rows : as a source returns them: the contract's columns, `day`, `source`, `problem`, `delivered`
    days : the days of the run; one without rows gets a verdict too
    past : what is known up to the day before the first of them; without it, only rows are judged, each day's by
        themselves
    undated : day to how many rows without a readable day may belong to it; they count against it

    Raises
    ------
    ValueError
        If a row belongs to none of `days`.
    """
    counts = _counts(rows["day"])
    outside = sorted(set(counts) - set(days), key=str)
    if outside:
        raise ValueError(f"{table.name}: rows of {outside[0]} among those of {len(days)} other days")
    refused = refused_rows(engine, table, rows, spec)
    frame = batch(table, spec, rows, refused)
    run = _Run(engine, table, rows, sorted(set(days)), spec, past, counts, refused, frame, undated)
    if past is None:
        return Validation(run.accepted({}), run.refused({}), run.by_rows({}))
    verdicts, late = _settle(run, repeats(engine, table, run.candidates(), past.ids))
    return Validation(run.accepted(late), run.refused(late), verdicts, run.counted(late).profiles)


def _settle(run: _Run, candidates: Repeats) -> tuple[dict[date, Verdict], Late]:
    """The verdicts, and the rows that repeat one of an earlier accepted day.

    Whether a day passes affects later ones, which are compared only with accepted rows. So the refused days are
    guessed, at first none, and judging the days under the guess yields the next guess. A verdict is correct if the
    guess is correct for all days before: verdicts up to and including the first wrongly guessed day are final, and only
    the days after it are measured again. A guess that is confirmed is correct for all days.
    """
    can_be_unusual = can_refuse(run.table, run.spec)
    failed: set[date] = set()
    measurements: dict[date, tuple[Measurement, ...]] = {}
    start = 0
    while True:
        late = candidates.refused(failed)
        verdicts = run.by_rows(late)
        if can_be_unusual:
            measurements |= run.measures(late, failed, start)
            verdicts = {day: verdict.with_measures(measurements[day]) for day, verdict in verdicts.items()}
        failing = {day for day in run.days if not verdicts[day].passed}
        if failing == failed:
            break
        start = run.days.index(min(failing ^ failed)) + 1
        failed = failing
    if not can_be_unusual:
        measurements = run.measures(late, failed)
        verdicts = {day: verdict.with_measures(measurements[day]) for day, verdict in verdicts.items()}
    return verdicts, late


@dataclass(frozen=True)
class _Counted:
    """What measures are computed from: counts of the accepted rows, which are those not in `late`."""

    late: set[int]
    profiles: pa.Table
    unknown: pa.Table | None


@dataclass
class _Run:
    """The rows of one run and what is computed from them; `late` are rows that repeat one of an earlier day, each with
    whether its content differs from that one."""

    engine: Engine
    table: Table
    rows: pa.Table
    days: Sequence[date]
    spec: ValidationSpec
    past: Past | None
    counts: dict[date | None, int]
    broken: pa.Table
    batch: pd.DataFrame
    undated: Mapping[date, int]
    _late: Late | None = None
    _verdicts: dict[date, Verdict] = field(default_factory=dict)
    _accepted: tuple[set[int], pa.Table] | None = None
    _counted: _Counted | None = None

    def candidates(self) -> pa.Table:
        """Number, day and id of the rows that no rule has refused."""
        if ID not in self.table.names or self.rows[ID].null_count == self.rows.num_rows:
            return self.rows.slice(0, 0)
        columns = self.rows.select(["day", ID, *content_columns(self.table)])
        return drop_rows(with_row_numbers(columns), self.broken["row_number"].to_numpy())

    def by_rows(self, late: Late) -> dict[date, Verdict]:
        """The verdicts on the rows alone; only days for which `late` has changed are judged again."""
        changed = {number for number, _ in (self._late or {}).items() ^ late.items()}
        if self._late is not None and not changed:
            return dict(self._verdicts)
        rule = duplicate_rule(self.table)
        if changed:
            severity = self.spec.severity.get(rule or "")
            counting = {n for n in changed & late.keys() if (late[n] if severity is None else severity == "error")}
            self.batch.loc[sorted(counting), suites.REFUSED_BY] = 1.0
            self.batch.loc[sorted(changed - counting), suites.REFUSED_BY] = float("nan")
        days, batch = self.days, self.batch
        if self._late is not None:
            days = sorted(set(self._days_of(changed)))
            batch = batch[batch["day"].isin(stamps(days))]
        rules: dict[date, dict[str, int]] = {}
        by_rule = self.broken.group_by(["day", "rule"]).aggregate([([], "count_all")])
        for entry in by_rule.sort_by([("day", "ascending"), ("rule", "ascending")]).to_pylist():
            rules.setdefault(entry["day"], {})[entry["rule"]] = entry["count_all"]
        for day in self._days_of(set(late)):
            of_day = rules.setdefault(day, {})
            of_day[rule or ""] = of_day.get(rule or "", 0) + 1
        rules = {day: dict(sorted(counts.items())) for day, counts in rules.items() if day in set(days)}
        self._verdicts |= row_verdicts(self.table, self.spec, batch, days, self.counts, rules, self.undated)
        self._late = dict(late)
        return dict(self._verdicts)

    def measures(self, late: Late, failed: Collection[date], start: int = 0) -> dict[date, tuple[Measurement, ...]]:
        """The judged measures of the days from the `start`-th on, given that those in `failed` are refused."""
        assert self.past is not None
        days, counted = self.days[start:], self.counted(late)
        if not days:
            return {}
        past = self.past.after(counted.profiles, set(self.days[:start]) - set(failed))
        own = counted.profiles.filter(pc.greater_equal(counted.profiles["day"], pa.scalar(days[0])))
        measures = measure(self.table, own, counted.unknown, days, self.spec, past, failed)
        return judge_days(self.table, self.spec, measures)

    def counted(self, late: Late) -> _Counted:
        """Profiles and unknown customers; only days for which `late` has changed are counted again."""
        before = self._counted
        if before is not None and before.late == set(late):
            return before
        rows = self.accepted(late)
        if before is not None:
            changed = pa.array(sorted(set(self._days_of(before.late ^ set(late)))), pa.date32())
            rows = rows.filter(pc.is_in(rows["day"], changed))
        profiles, unknown = profile(self.engine, self.table, rows), None
        assert self.past is not None
        if self.past.customers is not None and self.table.name != "customers":
            unknown = count_unknown_customers(self.engine, rows, self.past.customers)
        if before is not None:
            profiles = _replace_days(before.profiles, profiles, changed)
            unknown = None if unknown is None else _replace_days(before.unknown, unknown, changed)
        self._counted = _Counted(set(late), profiles, unknown)
        return self._counted

    def accepted(self, late: Late) -> pa.Table:
        import numpy as np

        if self._accepted is None or self._accepted[0] != set(late):
            numbers = np.concatenate([self.broken["row_number"].to_numpy(), np.array(list(late), dtype=np.int64)])
            kept = drop_rows(self.rows.select([*self.table.names, "day"]), numbers)
            self._accepted = set(late), kept
        return self._accepted[1]

    def refused(self, late: Late) -> pa.Table:
        refused = self.broken
        if len(late):
            numbers = pa.array(list(late), pa.int64())
            repeated = self.rows.take(numbers)
            rule = pa.array([duplicate_rule(self.table)] * len(late), pa.string())
            repeated = repeated.set_column(repeated.column_names.index("problem"), "problem", rule)
            repeated = repeated.append_column("row_number", numbers)
            repeats_refused = self.engine.query(refusals_sql(self.table, self.spec, repeated), rows=repeated)
            refused = pa.concat_tables([refused, repeats_refused]).sort_by(
                [("day", "ascending"), ("row_number", "ascending")]
            )
        schema = pa.schema([*QUARANTINE.schema(), pa.field("day", pa.date32())])
        return refused.select(schema.names).cast(schema)

    def _days_of(self, numbers: set[int]) -> list[date]:
        days: list[date] = self.rows["day"].take(pa.array(sorted(numbers), pa.int64())).to_pylist()
        return days


def judge_rows(engine: Engine, table: Table, rows: pa.Table, spec: ValidationSpec) -> pd.DataFrame:
    """Delivered rows as people read them, with the rule that refuses them in `refused_by`, if it counts."""
    import numpy as np
    import pandas as pd

    refused = refused_rows(engine, table, rows, spec)
    frame: pd.DataFrame = rows.select([*table.names, "day"]).to_pandas(date_as_object=False)
    refused = refused.filter(refused["counts"])
    rules = np.full(rows.num_rows, None, dtype=object)
    rules[refused["row_number"].to_numpy()] = refused["rule"].to_pylist()
    frame[suites.REFUSED_BY] = pd.Series(rules, dtype="str")
    return frame


def _counts(days: pa.ChunkedArray) -> dict[date | None, int]:
    return {entry["values"].as_py(): entry["counts"].as_py() for entry in pc.value_counts(days)}


def _replace_days(before: pa.Table, recounted: pa.Table, days: pa.Array) -> pa.Table:
    """`before`, with the rows of some days replaced."""
    kept = before.filter(pc.invert(pc.is_in(before["day"], days)))
    return pa.concat_tables([kept, recounted.cast(kept.schema)]).sort_by("day")
