"""What the body of an asset works with: its partitions, those of the assets it reads, and a report of what it did.

A step is independent of Dagster's executor: a body can be called on any lake, and what it wrote and checked is in its
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
    checks : the evaluations, one per check and partition
    """

    written: dict[date, dict[str, Any]] = field(default_factory=dict)
    checks: list[dg.AssetCheckEvaluation] = field(default_factory=list)


@dataclass
class Step:
    """One run of one asset over one or several partitions.

    Parameters
    ----------
    workspace : the project and its parts, with the declared assets
    name : name of the asset
    keys : the days or weeks to make
    run_id : Dagster's id of the run; empty outside of a run
    report : what the step has done so far
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
    def own_partitions(self) -> Partitions:
        """The partitions of this asset."""
        return self.workspace.partitions(self.name)

    # ── which partitions ──────────────────────────────────────────────────────────────────────────────────────────

    def batches(self, days: int = BATCH_DAYS) -> Iterator[list[date]]:
        """The days of this step in ascending batches of at most `days` consecutive days."""
        keys = sorted(self.keys)
        start = 0
        for end in range(1, len(keys) + 1):
            is_full = end - start == days
            if end == len(keys) or is_full or keys[end] - keys[end - 1] > timedelta(days=1):
                yield keys[start:end]
                start = end

    def days_by_training_week(self) -> Iterator[tuple[date | None, list[date]]]:
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

    def read(self, name: str, keys: Iterable[date]) -> pa.Table:
        """Read partitions of an asset into memory, with their day."""
        return self.engine.query("SELECT * FROM partitions", partitions=self.workspace.partitions(name).files(keys))

    def write(
        self,
        rows: pa.Table,
        days: Sequence[date],
        *,
        footers: Mapping[date, Mapping[str, str]] | None = None,
        **notes: Any,
    ) -> None:
        """Write the partitions of `days` and note their metadata; `footers` are stored in the files."""
        if not days:
            return
        counts = self.own_partitions.write_days(rows, days, footers)
        for day in days:
            self.note(day, rows=counts[day], **notes)

    def write_week(self, week: date, rows: pa.Table, **notes: Any) -> None:
        """Write the partition of a week and note its metadata."""
        self.note(week, rows=self.own_partitions.write(week, rows), **notes)

    def note(self, key: date, *, rows: int | None = None, **notes: Any) -> None:
        """Note metadata of one partition and report progress."""
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
        message: str = "",
        **notes: Any,
    ) -> None:
        """Report a check of one partition.

        Parameters
        ----------
        name : name of the check, as declared
        key : the day or week
        passed : whether the check passed
        warn : whether a failed check is only a warning
        stop : whether a failed check that is not a warning ends the step
        message : what to show with a failed check that is a warning; by default its name
        **notes : metadata of the evaluation

        Raises
        ------
        dagster.Failure
            If the check failed, is not a warning, and `stop` is set: the step ends before it writes.
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
            progress.notify(self.name, f"{key}: {message or name.replace('_', ' ')}")
        if not passed and stop and not warn:
            details = ", ".join(f"{k.replace('_', ' ')}: {v}" for k, v in notes.items())
            refuse(f"{self.name} of {key} fails the check {name.replace('_', ' ')!r} ({details})")


def refuse(sentence: str) -> NoReturn:
    """Fail a step for a reason that a retry would not fix."""
    raise dg.Failure(sentence, allow_retries=False)


def read_day_before(step: Step, name: str, day: date) -> pa.Table | None:
    """An asset's partition of the day before; None on the first day ever made."""
    before = day - timedelta(days=1)
    return None if step.workspace.partitions(name).missing([before]) else step.read(name, [before])


def read_recent(step: Step, name: str, day: date, span: timedelta) -> pa.Table:
    """An asset's partitions from `day - span` to `day`, as far as they exist."""
    calendar = step.workspace.calendar
    wanted = calendar.days(max(day - span, calendar.start), day)
    absent = set(step.workspace.partitions(name).missing(wanted))
    return step.read(name, [one for one in wanted if one.isoformat() not in absent])


def check_one_row_per_customer(step: Step, name: str, days: Sequence[date], expected: pa.Table, rows: pa.Table) -> None:
    """Check that each day has exactly one row per customer of `expected`."""
    expected_counts, actual_counts = (_count_customers(step.engine, table, days) for table in (expected, rows))
    for day in days:
        known, (count, customers) = expected_counts[day][1], actual_counts[day]
        step.check(name, day, count == customers == known, known_customers=known, rows=count, customers=customers)


def _count_customers(engine: Engine, rows: pa.Table, days: Sequence[date]) -> dict[date, tuple[int, int]]:
    """Rows and distinct customers of each day."""
    result = engine.query(
        "SELECT day, COUNT(*) AS n, COUNT(DISTINCT customer_id) AS customers FROM rows GROUP BY day", rows=rows
    )
    counts = {row["day"]: (row["n"], row["customers"]) for row in result.to_pylist()}
    return {day: counts.get(day, (0, 0)) for day in days}
