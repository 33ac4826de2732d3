"""Jobs and schedules: a daily one and a weekly one for each project, at the project's hour.

Daily and weekly assets are never materialized in one range run: it would train the coming week on missing days. So
there are two jobs, and the daily one refuses to run while a training week it needs is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from microseg_assets.workspace import Workspace

UP_TO_FEATURES = ("ingest", "validate", "features")


def jobs(workspace: Workspace) -> list[dg.UnresolvedAssetJobDefinition]:
    """`<project>_daily` for daily assets, `_to_features` and `_from_value` for its halves, `_weekly` for training."""
    project = workspace.project.name
    weekly = [workspace.key(name) for name in workspace.stored if workspace.is_weekly(name)]
    groups = dg.AssetSelection.groups(*UP_TO_FEATURES) & dg.AssetSelection.key_prefixes([project])
    daily = dg.AssetSelection.key_prefixes([project]) - dg.AssetSelection.assets(*weekly)

    def job(name: str, selection: dg.AssetSelection, description: str) -> dg.UnresolvedAssetJobDefinition:
        return dg.define_asset_job(
            f"{project}_{name}", selection=selection, description=description, tags={"microseg/project": project}
        )

    return [
        job("daily", daily, "Every daily asset of the selected days; their training weeks must exist."),
        job("to_features", groups, "Ingest, validate and features: everything that training needs."),
        job("from_value", daily - groups, "From value to the atlas; features and training weeks must exist."),
        job("weekly", dg.AssetSelection.assets(*weekly), "Every model family, for training weeks that have ended."),
    ]


def schedules(workspace: Workspace, jobs: Sequence[dg.UnresolvedAssetJobDefinition]) -> list[dg.ScheduleDefinition]:
    """The daily job at the project's hour; on Mondays the weekly job half an hour later, once Sunday has been made.

    Both are off until switched on. The weekly choice is in force from Monday's partition on, which is made on Tuesday.
    """
    by_name = {job.name: job for job in jobs}
    hour, minute = workspace.project.schedule.hour, workspace.project.schedule.minute
    project = workspace.project.name
    later = (hour * 60 + minute + 30) % (24 * 60)
    return [
        _schedule(by_name[f"{project}_daily"], f"{project}_daily_schedule", hour, minute),
        _schedule(by_name[f"{project}_weekly"], f"{project}_weekly_schedule", later // 60, later % 60),
    ]


def _schedule(job: dg.UnresolvedAssetJobDefinition, name: str, hour: int, minute: int) -> dg.ScheduleDefinition:
    return dg.build_schedule_from_partitioned_job(
        job, name=name, hour_of_day=hour, minute_of_hour=minute, default_status=dg.DefaultScheduleStatus.STOPPED
    )  # type: ignore[return-value]
