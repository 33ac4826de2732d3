"""What the weekly assets of model families share: the week a model is trained on, and the record of its choice.

Belongs here: training weeks, choices as rows and MLflow runs, evidence, daily monitoring. Does not belong here: fitting
and choosing models (`ml`), and calls of MLflow (`tracking`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg
import pyarrow as pa

from microseg_assets.orchestration.step import Step
from microseg_assets.storage.choices import Choice, load_previous_choice
from microseg_assets.storage.history import training_history
from microseg_assets.workspace import Workspace
from ml import tables
from ml.choice import FitResult
from ml.features import CustomerHistory
from ml.naming import metric_name
from ml.reasons import as_json


@dataclass(frozen=True)
class TrainingWeek:
    """One week of a family.

    Parameters
    ----------
    workspace : the project and its parts
    start, end : first and last day of the week
    history : what was known of customers at the end of the week
    incumbent : last week's choice
    """

    workspace: Workspace
    start: date
    end: date
    history: CustomerHistory
    incumbent: Choice

    def accepted(self, table: str) -> pa.Table:
        """Accepted rows of an input table up to the end of the week."""
        days = self.workspace.calendar.days(self.workspace.calendar.start, self.end)
        rows = self.workspace.accepted(table, days)
        return self.workspace.engine.query("SELECT * FROM accepted ORDER BY ALL", accepted=rows)


def training_weeks(step: Step, family: str | None = None) -> Iterator[TrainingWeek]:
    """The weeks of a step, ascending, each with the history known at its end and the family's incumbent."""
    workspace, calendar = step.workspace, step.workspace.calendar
    for week in sorted(step.keys):
        end = calendar.week_end(week)
        incumbent = load_previous_choice(workspace, family, week) if family else Choice(None, "baseline", None, "")
        yield TrainingWeek(workspace, week, end, training_history(workspace, end, step.run_id), incumbent)


def record_choice(step: Step, family: str, week: TrainingWeek, fit_result: FitResult, *, spec: Any) -> None:
    """Log a week's fit, write the family's choice, and point the champion alias to the newest choice."""
    tracking = step.workspace.tracking
    recorded = tracking.record(family, week.start, fit_result, spec=spec, tags=_tags(step, week))
    version = {"challenger": recorded.version, "incumbent": week.incumbent.version, "none": None}[fit_result.decision]
    row = {
        "family": family,
        "model_name": tracking.model_name(family) if version else None,
        "version": version,
        "decision": fit_result.decision,
        "reason": fit_result.reason,
        "metric": fit_result.metric,
        "challenger": fit_result.challenger_score,
        "incumbent": fit_result.incumbent_score,
        "reason_code": fit_result.reason_code or None,
        "reason_parameters": as_json(fit_result.reason_parameters),
    }
    if week.start.isoformat() >= max(step.own_partitions.keys(), default=""):
        tracking.set_champion(family, version)
    metrics = {name: float(value) for name, value in fit_result.metrics.items() if value == value}
    step.write_week(
        week.start, pa.Table.from_pylist([row], tables.MODEL_CHOICES.schema()),
        decision=fit_result.decision, reason=fit_result.reason, reason_code=fit_result.reason_code, version=version,
        mlflow_run=dg.MetadataValue.url(recorded.url), **metrics,
    )  # fmt: skip


def record_evidence(
    step: Step, family: str, week: TrainingWeek, rows: pa.Table, draw: Callable[[pa.Table], Any]
) -> None:
    """Log a table of evidence to MLflow and write it to the lake."""
    metrics = {
        f"evidence.{name}.{row['grouping'].replace(' ', '_')}": row[name]
        for row in rows.to_pylist()
        for name in ("r2_spend", "r2_log_spend")
    }
    figures = {"evidence": lambda: draw(rows)} if rows.num_rows else {}
    tags = _tags(step, week)
    url = step.workspace.tracking.log_table(family, week.start, rows.to_pandas(), metrics, figures, tags)
    step.write_week(week.start, rows, mlflow_run=dg.MetadataValue.url(url), **metrics)


def _tags(step: Step, week: TrainingWeek) -> dict[str, str]:
    return {
        "dagster_run_id": step.run_id,
        "asset": f"{step.project.name}/{step.name}",
        "input_fingerprint": week.history.fingerprint(),
    }


def monitor(step: Step, family: str, aggregates: Mapping[str, str]) -> None:
    """Log daily aggregates of the rows that a step wrote to the family's monitoring run.

    Parameters
    ----------
    aggregates : metric name to a SQL aggregate over the rows of a day
    """
    columns = ", ".join(f"{sql} AS {name}" for name, sql in aggregates.items())
    daily = step.engine.query(
        f"SELECT day, {columns} FROM written GROUP BY day ORDER BY day", written=step.own_partitions.files(step.keys)
    )
    step.workspace.tracking.monitor(family, {row.pop("day"): row for row in daily.to_pylist()})


def monitor_shares(step: Step, family: str, column: str) -> None:
    """Log the daily share of each value of a column of the rows that a step wrote."""
    daily = step.engine.query(
        f"""
        SELECT day, {column} AS value, COUNT(*) * 1.0 / SUM(COUNT(*)) OVER (PARTITION BY day) AS share
        FROM written GROUP BY day, {column} ORDER BY day, {column}
        """,
        written=step.own_partitions.files(step.keys),
    )
    shares: dict[date, dict[str, float]] = {}
    for row in daily.to_pylist():
        shares.setdefault(row["day"], {})[metric_name(f"share.{row['value']}")] = row["share"]
    step.workspace.tracking.monitor(family, shares)
