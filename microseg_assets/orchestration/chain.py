"""Makes the assets of a project of their declarations: in the workspace, and as Dagster's definitions.

One declaration per asset (what it reads and how far, what it writes) gives Dagster's dependencies and partition
mappings, the refusal to work on missing upstream partitions, and the metadata of each partition.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from microseg_assets.orchestration import metadata
from microseg_assets.orchestration.declaration import Declaration
from microseg_assets.orchestration.execution import run
from microseg_assets.workspace import Workspace

OWNERS = {
    "ingest": "team:data-engineering",
    "validate": "team:data-engineering",
    "features": "team:data-engineering",
    "value": "team:data-science",
    "lifecycle": "team:data-science",
    "segments": "team:data-science",
    "journeys": "team:data-science",
    "actions": "team:marketing-science",
    "report": "team:marketing-science",
}


CODE_VERSION = "1"


def declare(workspace: Workspace, chain: Sequence[Declaration]) -> list[Declaration]:
    """Put assets in a workspace, those of tables that the business does not bring left out; returns those that are."""
    there = [one for one in chain if not workspace.is_off(one.name)]
    for one in there:
        workspace.stored[one.name] = one.stored(workspace.project)
        workspace.groups[one.name] = one.group
        workspace.reads[one.name] = {
            upstream: reach for upstream, reach in one.reads.items() if not workspace.is_off(upstream)
        }
    return there


def definition(workspace: Workspace, declared: Declaration) -> dg.AssetsDefinition:
    """Dagster's definition of an asset that the workspace has."""
    name, project = declared.name, workspace.project
    partitions = workspace.calendar.weekly if workspace.is_weekly(name) else workspace.calendar.daily

    @dg.asset(
        name=name,
        key_prefix=project.name,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[
            dg.AssetDep(workspace.key(upstream), partition_mapping=reach.mapping)
            for upstream, reach in workspace.reads[name].items()
        ],
        group_name=declared.group,
        owners=[OWNERS[declared.group]],
        kinds=set(declared.kinds),
        code_version=CODE_VERSION,
        description=declared.description,
        metadata=metadata.of_table(workspace.stored[name].table),
        check_specs=[
            dg.AssetCheckSpec(check, asset=workspace.key(name), description=text, partitions_def=partitions)
            for check, text in declared.checks.items()
        ],
    )
    def asset(context):  # type: ignore[no-untyped-def]  # Dagster refuses annotations that are strings
        yield from run(workspace, declared, context)

    return asset
