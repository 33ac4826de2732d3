"""What the body of an asset gets to work with: its partitions, those of the assets it reads, and what it reports.

A step knows nothing of Dagster's executor: a body can be called on any lake, and what it wrote and checked is in its
`report`. Does not belong here: what is computed (`ml`), how an asset is declared (`declaration`), and how Dagster runs
a body (`execution`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, NoReturn

import dagster as dg
import pyarrow as pa

from microseg_assets import progress
from microseg_assets.orchestration import metadata
from microseg_assets.project import Project
from microseg_assets.workspace import Partitions, Workspace
from ml.engine import Engine

BATCH_DAYS = 31


@dataclass
class Report:
    """What a step has done.

    Parameters
    ----------
    written : day or week to the metadata of its partition
    checks : the evaluations, one a check and partition
    """

    written: dict[date, dict[str, Any]] = field(default_factory=dict)
    checks: list[dg.AssetCheckEvaluation] = field(default_factory=list)


@dataclass
class Step:
    """One run of one asset over one or several partitions.

    Parameters
    ----------
    workspace : the project and its parts, with the assets that are declared
    name : the asset's
    keys : the days or weeks to make
    run_id : Dagster's id of the run; empty without one
    """

    workspace: Workspace
    name: str
    keys: Sequence[date]
    run_id: str = ""
    report: Report = field(default_factory=Report)

    @property
    def project(self) -> Project:
        return self.workspace.project

    @property
    def engine(self) -> Engine:
        return self.workspace.engine

    @property
    def own(self) -> Partitions:
        """The partitions of this asset."""
        return self.workspace.partitions(self.name)

    # ── which partitions ──────────────────────────────────────────────────────────────────────────────────────────

    def batches(self, days: int = BATCH_DAYS) -> Iterator[list[date]]:
        """The days of this step in bounded, unbroken runs, ascending."""
        keys = sorted(self.keys)
        start = 0
        for end in range(1, len(keys) + 1):
            full = end - start == days
            if end == len(keys) or full or keys[end] - keys[end - 1] > timedelta(days=1):
                yield keys[start:end]
                start = end

    def in_force(self) -> Iterator[tuple[date | None, list[date]]]:
        """The days of this step, grouped by the training week whose choices are in force on them."""
        serving_week = self.workspace.calendar.serving_week
        group: list[date] = []
        for day in sorted(self.keys):
            if group and serving_week(day) != serving_week(group[0]):
                yield serving_week(group[0]), group
                group = []
            group.append(day)
        if group:
            yield serving_week(group[0]), group

    # ── reading and writing ───────────────────────────────────────────────────────────────────────────────────────

    def read(self, asset: str, keys: Iterable[date]) -> pa.Table:
        """Partitions of an asset in memory, with their day."""
        return self.engine.query("SELECT * FROM partitions", partitions=self.workspace.partitions(asset).files(keys))

    def write(
        self,
        rows: pa.Table,
        days: Sequence[date],
        *,
        footers: Mapping[date, Mapping[str, str]] | None = None,
        **notes: Any,
    ) -> None:
        """Put the partitions of `days` in place and note their metadata; `footers` are kept in the files too."""
        if not days:
            return
        counts = self.own.write_days(rows, days, footers)
        for day in days:
            self.note(day, rows=counts[day], **notes)

    def write_week(self, week: date, rows: pa.Table, **notes: Any) -> None:
        """Put the partition of a week in place and note its metadata."""
        self.note(week, rows=self.own.write(week, rows), **notes)

    def note(self, key: date, *, rows: int | None = None, **notes: Any) -> None:
        """Metadata of one partition, and one step of progress for whoever watches."""
        values = metadata.values(notes)
        if rows is not None:
            values["dagster/partition_row_count"] = dg.MetadataValue.int(rows)
        self.report.written.setdefault(key, {}).update(values)
        progress.advance(self.name, len(self.report.written), len(self.keys))

    # ── checks ────────────────────────────────────────────────────────────────────────────────────────────────────

    def check(
        self,
        name: str,
        key: date,
        passed: bool,
        *,
        warn: bool = False,
        stop: bool = True,
        words: str = "",
        **notes: Any,
    ) -> None:
        """Report a check of one partition.

        Parameters
        ----------
        name : the check's, as it is declared
        key : the day or week
        passed : whether it holds
        warn : whether one that does not hold is a warning
        stop : whether one that does not hold, and is no warning, ends the step
        words : what a warning that did not hold means to whoever watches the run; nothing is said without

        Raises
        ------
        dagster.Failure
            If it failed, is not a warning, and `stop` is set: then the step ends before it writes.
        """
        severity = dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR
        self.report.checks.append(
            dg.AssetCheckEvaluation(
                asset_key=self.workspace.key(self.name),
                check_name=name,
                passed=bool(passed),
                severity=severity,
                metadata=metadata.values(notes),
                partition=key.isoformat(),
            )
        )
        if not passed and warn:
            progress.tell(self.name, f"{key}: {words or name.replace('_', ' ')}")
        if not passed and stop and not warn:
            said = ", ".join(f"{k.replace('_', ' ')}: {v}" for k, v in notes.items())
            refuse(f"{self.name} of {key} does not hold: {name.replace('_', ' ')} ({said})")


def refuse(sentence: str) -> NoReturn:
    """End a step, for a reason that no second try mends."""
    raise dg.Failure(sentence, allow_retries=False)


def yesterday(step: Step, asset: str, day: date) -> pa.Table | None:
    """An asset's partition of the day before; None on the first day that was ever made."""
    before = day - timedelta(days=1)
    return None if step.workspace.partitions(asset).missing([before]) else step.read(asset, [before])


def recent(step: Step, asset: str, day: date, span: timedelta) -> pa.Table:
    """An asset's partitions from `day - span` to `day` that are there."""
    calendar = step.workspace.calendar
    wanted = calendar.days(max(day - span, calendar.start), day)
    gone = set(step.workspace.partitions(asset).missing(wanted))
    return step.read(asset, [one for one in wanted if one.isoformat() not in gone])


def check_one_each(step: Step, name: str, days: Sequence[date], expected: pa.Table, rows: pa.Table) -> None:
    """Check that each day has one row per customer of `expected`, no customer twice."""
    wanted, there = (_customers(step.engine, table, days) for table in (expected, rows))
    for day in days:
        known, (count, customers) = wanted[day][1], there[day]
        step.check(name, day, count == customers == known, known_customers=known, rows=count, customers=customers)


def _customers(engine: Engine, rows: pa.Table, days: Sequence[date]) -> dict[date, tuple[int, int]]:
    """Rows and distinct customers of each day."""
    counted = engine.query(
        "SELECT day, COUNT(*) AS n, COUNT(DISTINCT customer_id) AS customers FROM rows GROUP BY day", rows=rows
    )
    counts = {row["day"]: (row["n"], row["customers"]) for row in counted.to_pylist()}
    return {day: counts.get(day, (0, 0)) for day in days}
