"""Runs the body of an asset inside Dagster: checks that its inputs exist, and reports what it did as Dagster events.

Belongs here: refusing to work on missing upstream partitions, reporting metadata and checks of each partition, and
reporting what a failed step had written. Does not belong here: what a body works with (see `step`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEventBatchMetadata

from microseg_assets import progress
from microseg_assets.orchestration.declaration import Declaration
from microseg_assets.orchestration.step import Step
from microseg_assets.partitions import Lookback
from microseg_assets.storage.lake import MissingPartitions
from microseg_assets.workspace import Workspace, command_for


def run(workspace: Workspace, declaration: Declaration, context: dg.AssetExecutionContext) -> Iterator[Any]:
    """Make the partitions of a run; yields its check results and its one materialization."""
    keys = [date.fromisoformat(key) for key in context.partition_keys]
    step = Step(workspace, declaration.name, keys, context.run.run_id)
    started = time.perf_counter()
    progress.begin(step.name, len(keys))
    require(workspace, step.name, keys)
    try:
        declaration(step)
    except BaseException:
        _report_written(step, context)
        raise
    for key, values in step.report.written.items():
        context.add_asset_metadata(values, partition_key=key.isoformat())
    _report_checks(step, context)
    progress.finish(step.name, len(keys), time.perf_counter() - started)
    for check in declaration.checks:
        yield _check_result(step, check)
    yield dg.MaterializeResult()


def require(workspace: Workspace, name: str, keys: Sequence[date]) -> None:
    """Refuse to work on missing upstream partitions; the message has the command that makes them.

    Raises
    ------
    dagster.Failure
        If a partition that the asset reads does not exist.
    """
    for upstream, lookback in workspace.reads[name].items():
        existing = set(workspace.partitions(upstream).keys())
        needed = {k for key in keys for k in workspace.calendar.upstream(lookback, key)}
        if upstream == name:
            needed -= set(keys)
        if lookback == Lookback.SEVEN_DAYS:
            needed &= set(keys)
        if lookback.may_begin:
            # The first partition ever made has none before it; a gap between existing ones is an error.
            first = min(existing, default="9999")
            needed = {k for k in needed if k in keys or k.isoformat() > first}
        absent = sorted(str(k) for k in needed if str(k) not in existing)
        if absent:
            missing = MissingPartitions(upstream, absent)
            raise dg.Failure(
                f"{name} of {min(keys)}{f' … {max(keys)}' if len(keys) > 1 else ''} cannot be made: {missing}. "
                f"{command_for(workspace, upstream, absent)}",
                metadata={"missing": dg.MetadataValue.json(absent[:1000])},
                allow_retries=False,
            )


def _report_written(step: Step, context: dg.AssetExecutionContext) -> None:
    """After a failure, report the partitions that were written before it: they exist and passed."""
    for key, values in step.report.written.items():
        context.log_event(
            dg.AssetMaterialization(step.workspace.key(step.name), partition=key.isoformat(), metadata=values)
        )
    _report_checks(step, context)


def _report_checks(step: Step, context: dg.AssetExecutionContext) -> None:
    """Report the evaluations of each partition as events: the one result of a range run cannot hold them."""
    batch = uuid.uuid4().hex
    for number, evaluation in enumerate(step.report.checks, 1):
        context.instance.report_dagster_event(
            dg.DagsterEvent(
                event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
                event_specific_data=evaluation,
                job_name=context.run.job_name,
            ),
            run_id=context.run.run_id,
            batch_metadata=DagsterEventBatchMetadata(batch, number == len(step.report.checks)),
        )


def _check_result(step: Step, name: str) -> dg.AssetCheckResult:
    """The result of a check for the whole run."""
    evaluations = [one for one in step.report.checks if one.check_name == name]
    failed = [one for one in evaluations if not one.passed]
    has_error = any(one.severity == dg.AssetCheckSeverity.ERROR for one in failed)
    counts = {"partitions": len(evaluations), "failed": len(failed)}
    return dg.AssetCheckResult(
        asset_key=step.workspace.key(step.name),
        check_name=name,
        passed=not failed,
        metadata=evaluations[0].metadata if len(evaluations) == 1 else counts,
        severity=dg.AssetCheckSeverity.ERROR if has_error or not failed else dg.AssetCheckSeverity.WARN,
    )
