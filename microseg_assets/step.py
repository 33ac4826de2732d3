"""What the body of an asset gets to work with: reading, writing, checking and noting partitions.

Belongs here: everything that several bodies do in the same way. Does not belong here: what is computed (`ml`), and how
an asset is declared (`chain`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import Any, NoReturn

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
from dagster._core.events import DagsterEventBatchMetadata

from microseg_assets import metadata, progress
from microseg_assets.project import Project
from microseg_assets.workspace import Choice, Stored, Workspace
from ml import tables
from ml.engine import Engine, Files
from ml.features import DayFacts, Facts, day_facts
from ml.naming import metric_name
from ml.reasons import as_json
from ml.segments import Names, layer_inputs
from ml.tables.outputs import INPUT_PROFILES
from ml.training import Training

BATCH_DAYS = 31


@dataclass(frozen=True)
class TrainingWeek:
    """One week of a family: its days, the facts known at its end, and last week's choice."""

    workspace: Workspace
    start: date
    end: date
    facts: Facts
    incumbent: Choice

    def accepted(self, table: str) -> pa.Table:
        """Accepted rows of an input table up to the end of the week."""
        days = self.workspace.calendar.days(self.workspace.calendar.start, self.end)
        rows = self.workspace.accepted_of(table, days)
        return self.workspace.engine.query("SELECT * FROM accepted ORDER BY ALL", accepted=rows)


@dataclass
class Step:
    """One run of one asset over one or several partitions."""

    workspace: Workspace
    name: str
    context: dg.AssetExecutionContext
    keys: list[date]
    written: dict[date, dict[str, Any]] = field(default_factory=dict)
    checks: list[dg.AssetCheckEvaluation] = field(default_factory=list)

    @property
    def project(self) -> Project:
        return self.workspace.project

    @property
    def engine(self) -> Engine:
        return self.workspace.engine

    @property
    def stored(self) -> Stored:
        return self.workspace.stored[self.name]

    @cached_property
    def tags(self) -> dict[str, str]:
        return {"dagster_run_id": self.context.run.run_id, "asset": f"{self.project.name}/{self.name}"}

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
        group: list[date] = []
        for day in sorted(self.keys):
            if group and self.workspace.calendar.serving_week(day) != self.workspace.calendar.serving_week(group[0]):
                yield self.workspace.calendar.serving_week(group[0]), group
                group = []
            group.append(day)
        if group:
            yield self.workspace.calendar.serving_week(group[0]), group

    def training(self, family: str | None = None) -> Iterator[TrainingWeek]:
        """The weeks of this step, ascending, each with the facts known at its end and its incumbent."""
        calendar = self.workspace.calendar
        facts = self.workspace.facts(calendar.week_end(max(self.keys)))
        for week in sorted(self.keys):
            end = calendar.week_end(week)
            yield TrainingWeek(self.workspace, week, end, facts.until(end), self._incumbent(family, week))

    def _incumbent(self, family: str | None, week: date) -> Choice:
        """Last week's choice; none before the first week that was ever trained, or without a family."""
        before = self.workspace.calendar.previous_week(week)
        if before and family and not self.workspace.lake.missing(tables.MODEL_CHOICES, [before], family=family):
            return self.workspace.choice(family, before)
        return self.workspace.choice(family or "", None)

    @staticmethod
    def before(day: date) -> date:
        return day - timedelta(days=1)

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────

    def files(self, asset: str, keys: Iterable[date]) -> Files:
        """Partitions of an asset, as the engine reads them."""
        stored = self.workspace.stored[asset]
        return self.workspace.lake.files(stored.table, keys, **stored.fixed)

    def read(self, asset: str, keys: Iterable[date]) -> pa.Table:
        """Partitions of an asset in memory, with their day."""
        return self.engine.query("SELECT * FROM partitions", partitions=self.files(asset, keys))

    def week(self, asset: str, week: date) -> pa.Table:
        """One weekly partition in memory."""
        return self.workspace.lake.read(self.workspace.stored[asset].table, week)

    def yesterday(self, asset: str, day: date) -> pa.Table | None:
        """The partition of the day before; None on the first day that was ever made."""
        before = self.before(day)
        stored = self.workspace.stored[asset]
        if self.workspace.lake.missing(stored.table, [before], **stored.fixed):
            return None
        return self.read(asset, [before])

    def recent(self, asset: str, day: date, span: timedelta) -> pa.Table:
        """The partitions from `day - span` to `day` that are there."""
        stored = self.workspace.stored[asset]
        wanted = self.workspace.calendar.days(max(day - span, self.workspace.calendar.start), day)
        gone = set(self.workspace.lake.missing(stored.table, wanted, **stored.fixed))
        return self.read(asset, [d for d in wanted if d.isoformat() not in gone])

    def day_facts(self, days: Sequence[date]) -> DayFacts:
        """What the accepted rows of some days come to, each day by itself."""
        return day_facts(self.engine, **self.workspace.accepted(days))

    def layer_inputs(self, days: Sequence[date]) -> pa.Table:
        """Features, value and stage of each customer, side by side."""
        parts = (self.read(name, days) for name in ("customer_features", "customer_value", "lifecycle_stages"))
        return layer_inputs(self.engine, *parts)

    def names(self, week: date | None) -> Names:
        """What a marketer calls each micro-segment under the layer models of a week."""
        model = self.workspace.choice("layers", week).model
        return Names() if model is None else model.names()

    # ── small questions about rows ────────────────────────────────────────────────────────────────────────────────

    @staticmethod
    def of_days(rows: pa.Table, days: Sequence[date]) -> pa.Table:
        return rows.filter(pc.is_in(rows["day"], pa.array(list(days), pa.date32())))

    @staticmethod
    def primary(rows: pa.Table) -> pa.Table:
        """The primary row of each customer."""
        return rows.filter(rows["is_primary"])

    def count(self, rows: pa.Table, condition: str) -> int:
        found = self.engine.query(f"SELECT COUNT(*) AS n FROM rows WHERE {condition}", rows=rows)
        return int(found["n"][0].as_py())

    def counts(self, rows: pa.Table, days: Sequence[date]) -> dict[date, tuple[int, int]]:
        """Rows and distinct customers of each day."""
        found = self.engine.query(
            "SELECT day, COUNT(*) AS n, COUNT(DISTINCT customer_id) AS customers FROM rows GROUP BY day", rows=rows
        )
        counts = {row["day"]: (row["n"], row["customers"]) for row in found.to_pylist()}
        return {day: counts.get(day, (0, 0)) for day in days}

    def shares(self, rows: pa.Table, column: str) -> dict[str, int]:
        """How many rows have each value of a column, the most frequent first."""
        found = self.engine.query(
            f"""
            SELECT {column} AS value, COUNT(*) AS n FROM rows WHERE {column} IS NOT NULL
            GROUP BY {column} ORDER BY n DESC, value
            """,
            rows=rows,
        )
        return {str(row["value"]): row["n"] for row in found.to_pylist()}

    # ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────

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
        counts = self.workspace.lake.write_days(self.stored.table, rows, days, footers, **self.stored.fixed)
        for day in days:
            self.note(day, rows=counts[day], **notes)

    def write_week(self, week: date, rows: pa.Table, **notes: Any) -> None:
        count = self.workspace.lake.write(self.stored.table, week, rows, **self.stored.fixed)
        self.note(week, rows=count, **notes)

    def note(self, key: date, *, rows: int | None = None, **notes: Any) -> None:
        """Metadata of one partition, and one step of progress for whoever watches."""
        values = metadata.values(notes)
        if rows is not None:
            values["dagster/partition_row_count"] = dg.MetadataValue.int(rows)
        self.written.setdefault(key, {}).update(values)
        progress.advance(self.name, len(self.written), len(self.keys))

    def quarantine(self, table: str, key: str | date, refused: pa.Table) -> None:
        """Replace a partition of the quarantine; one without rows is not kept."""
        if key == "undated" and refused.num_rows:
            rows = "1 row belongs" if refused.num_rows == 1 else f"{refused.num_rows:,} rows belong"
            progress.tell(self.name, f"{rows} to no day: in quarantine, day=undated")
        if refused.num_rows:
            self.workspace.lake.write(tables.QUARANTINE, key, refused, table=table)
        else:
            self.workspace.lake.remove(tables.QUARANTINE, key, table=table)

    def quarantine_days(self, table: str, days: Sequence[date], refused: pa.Table) -> None:
        present = set(self.workspace.lake.keys(tables.QUARANTINE, table=table))
        if refused.num_rows:
            rules = pc.value_counts(refused["rule"]).to_pylist()
            listed = sorted(rules, key=lambda entry: (-entry["counts"], entry["values"]))
            said = ", ".join(f"{entry['values']} ×{entry['counts']:,}" for entry in listed[:4])
            progress.tell(self.name, f"{refused.num_rows:,} rows are in quarantine: {said}")
        with_rows = set(refused["day"].to_pylist())
        for day in days:
            if day in with_rows or day.isoformat() in present:
                self.quarantine(table, day, self.of_days(refused, [day]))

    def profile_days(self, table: str, days: Sequence[date], profiles: pa.Table | None) -> None:
        """Replace the profiles of accepted days; a day without rows keeps none."""
        if profiles is None:
            return
        of_days = self.of_days(profiles, days)
        with_rows = sorted(set(of_days["day"].to_pylist()))
        self.workspace.lake.write_days(INPUT_PROFILES, of_days, with_rows, table=table)
        for key in set(self.workspace.lake.keys(INPUT_PROFILES, table=table)) & {f"{day}" for day in days}:
            if date.fromisoformat(key) not in with_rows:
                self.workspace.lake.remove(INPUT_PROFILES, key, table=table)

    def withdraw(self, day: date) -> None:
        """Take a refused day out of sight, with the facts summed from it and every snapshot that contains them.

        What was published of these days stays as it was, and counts as stale; nothing new can be made of them.
        """
        lake = self.workspace.lake
        for table in (self.stored.table, tables.CUSTOMER_DAYS, tables.CATEGORY_DAYS, tables.ORDER_DAYS):
            lake.remove(table, day)
        for key in lake.keys(self.project.features_table):
            if key >= day.isoformat():
                lake.remove(self.project.features_table, key)

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
        words : what a warning that did not hold means to whoever watches the run; nothing is said without

        Raises
        ------
        dagster.Failure
            If it failed, is not a warning, and `stop` is set: then the step ends before it writes.
        """
        severity = dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR
        self.checks.append(
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
            self.refuse(f"{self.name} of {key} does not hold: {name.replace('_', ' ')} ({said})")

    def check_counts(
        self,
        name: str,
        days: Sequence[date],
        expected: Mapping[date, tuple[int, int]],
        found: Mapping[date, tuple[int, int]],
    ) -> None:
        """Check that each day has one row per expected customer, no customer twice."""
        for day in days:
            rows, customers = found[day]
            self.check(
                name, day, rows == customers == expected[day][1],
                known_customers=expected[day][1], rows=rows, customers=customers,
            )  # fmt: skip

    def doing(self, what: str) -> None:
        """Say what takes its time, for as long as it does."""
        progress.doing(self.name, what)

    def tell(self, text: str) -> None:
        """Say something to whoever watches, beside what is noted of each partition."""
        progress.tell(self.name, text)

    def refuse(self, sentence: str) -> NoReturn:
        raise dg.Failure(sentence, allow_retries=False)

    def record_what_is_there(self) -> None:
        """After a failure: what was put in place before it is there and passed, and the event log says so too."""
        for key, values in self.written.items():
            self.context.log_event(
                dg.AssetMaterialization(self.workspace.key(self.name), partition=key.isoformat(), metadata=values)
            )
        self.report_checks()

    def report_checks(self) -> None:
        """Each partition's own evaluations, as events of this run: its one result cannot carry them in a range run."""
        batch = uuid.uuid4().hex
        for place, evaluation in enumerate(self.checks, 1):
            self.context.instance.report_dagster_event(
                dg.DagsterEvent(
                    event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
                    event_specific_data=evaluation,
                    job_name=self.context.run.job_name,
                ),
                run_id=self.context.run.run_id,
                batch_metadata=DagsterEventBatchMetadata(batch, place == len(self.checks)),
            )

    def check_result(self, name: str) -> dg.AssetCheckResult:
        """One result for the run."""
        found = [e for e in self.checks if e.check_name == name]
        failed = [e for e in found if not e.passed]
        worst = any(e.severity == dg.AssetCheckSeverity.ERROR for e in failed)
        return dg.AssetCheckResult(
            asset_key=self.workspace.key(self.name),
            check_name=name,
            passed=not failed,
            metadata=found[0].metadata if len(found) == 1 else {"partitions": len(found), "failed": len(failed)},
            severity=dg.AssetCheckSeverity.ERROR if worst or not failed else dg.AssetCheckSeverity.WARN,
        )

    # ── MLflow ────────────────────────────────────────────────────────────────────────────────────────────────────

    def choose(self, family: str, week: TrainingWeek, training: Training, *, spec: Any) -> None:
        """Log a week's fit, write the family's choice, and let the champion alias follow the newest one."""
        tracking = self.workspace.tracking
        tags = {**self.tags, "input_fingerprint": week.facts.fingerprint()}
        recorded = tracking.record(family, week.start, training, spec=spec, tags=tags)
        version = {"challenger": recorded.version, "incumbent": week.incumbent.version, "none": None}[training.decision]
        row = {
            "family": family,
            "model_name": tracking.model_name(family) if version else None,
            "version": version,
            "decision": training.decision,
            "reason": training.reason,
            "metric": training.metric,
            "challenger": training.challenger_score,
            "incumbent": training.incumbent_score,
            "reason_code": training.reason_code or None,
            "reason_parameters": as_json(training.reason_parameters),
        }
        newest = max(self.workspace.lake.keys(tables.MODEL_CHOICES, family=family), default="")
        if week.start.isoformat() >= newest:
            tracking.set_champion(family, version)
        shown = {name: float(value) for name, value in training.metrics.items() if value == value}
        self.write_week(
            week.start, pa.Table.from_pylist([row], tables.MODEL_CHOICES.schema()),
            decision=training.decision, reason=training.reason, reason_code=training.reason_code, version=version,
            mlflow_run=dg.MetadataValue.url(recorded.url), **shown,
        )  # fmt: skip

    def log_evidence(self, family: str, week: TrainingWeek, rows: pa.Table, draw: Callable[[pa.Table], Any]) -> None:
        """Log a table of evidence to MLflow and write it."""
        metrics = {
            f"evidence.{name}.{row['grouping'].replace(' ', '_')}": row[name]
            for row in rows.to_pylist()
            for name in ("r2_spend", "r2_log_spend")
        }
        figures = {"evidence": lambda: draw(rows)} if rows.num_rows else {}
        url = self.workspace.tracking.log_table(
            family,
            week.start,
            rows.to_pandas(),
            metrics,
            figures,
            {**self.tags, "input_fingerprint": week.facts.fingerprint()},
        )
        self.write_week(week.start, rows, mlflow_run=dg.MetadataValue.url(url), **metrics)

    def monitor(self, family: str, aggregates: Mapping[str, str]) -> None:
        """Log daily aggregates of what this step wrote as steps of the family's monitoring run."""
        columns = ", ".join(f"{sql} AS {name}" for name, sql in aggregates.items())
        found = self.engine.query(
            f"SELECT day, {columns} FROM written GROUP BY day ORDER BY day", written=self.files(self.name, self.keys)
        )
        rows = {row.pop("day"): row for row in found.to_pylist()}
        self.workspace.tracking.monitor(family, rows)

    def monitor_shares(self, family: str, column: str) -> None:
        """Log the daily share of each value of a column."""
        found = self.engine.query(
            f"""
            SELECT day, {column} AS value, COUNT(*) * 1.0 / SUM(COUNT(*)) OVER (PARTITION BY day) AS share
            FROM written GROUP BY day, {column} ORDER BY day, {column}
            """,
            written=self.files(self.name, self.keys),
        )
        rows: dict[date, dict[str, float]] = {}
        for row in found.to_pylist():
            rows.setdefault(row["day"], {})[metric_name(f"share.{row['value']}")] = row["share"]
        self.workspace.tracking.monitor(family, rows)
