"""Turns declarations into the assets of a project: in the workspace, and as Dagster's definitions.

One declaration per asset (what it reads with which lookback, what it writes) yields Dagster's dependencies and
partition mappings, the check that upstream partitions exist, and the metadata of each partition.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from microseg_assets.orchestration import metadata
from microseg_assets.orchestration.declaration import Declaration
from microseg_assets.orchestration.execution import run
from microseg_assets.partitions import Lookback
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


def add_assets(workspace: Workspace, chain: Sequence[Declaration]) -> list[Declaration]:
    """Add assets to a workspace, except those of tables that the business does not provide; returns those added.

    What makes snapshots reads attributes, and so all deliveries of the customers; contexts are joined to attributes, so
    it reads those of the same days, whether or not there is a customers table.
    """
    contexts = [context.table for context in workspace.project.contexts]
    declarations = [declaration for declaration in chain if not workspace.is_off(declaration.name)]
    for declaration in declarations:
        name = declaration.name
        workspace.stored[name] = declaration.stored(workspace.project)
        workspace.groups[name] = declaration.group
        reads = declaration.reads_in(workspace.project)
        if (lookback := reads.get("customers")) in (Lookback.DAYS_SO_FAR, Lookback.DAYS_TO_WEEK_END):
            reads = {**reads, **dict.fromkeys(contexts, lookback)}
        workspace.reads[name] = {one: lookback for one, lookback in reads.items() if not workspace.is_off(one)}
    return declarations


def define(workspace: Workspace, declaration: Declaration) -> dg.AssetsDefinition:
    """Dagster's definition of an asset of the workspace."""
    name, project = declaration.name, workspace.project
    partitions = workspace.calendar.weekly if workspace.is_weekly(name) else workspace.calendar.daily

    @dg.asset(
        name=name,
        key_prefix=project.name,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[
            dg.AssetDep(workspace.key(upstream), partition_mapping=lookback.mapping)
            for upstream, lookback in workspace.reads[name].items()
        ],
        group_name=declaration.group,
        owners=[OWNERS[declaration.group]],
        kinds=set(declaration.kinds),
        code_version=CODE_VERSION,
        description=declaration.description,
        metadata=metadata.of_table(workspace.stored[name].table),
        check_specs=[
            dg.AssetCheckSpec(check, asset=workspace.key(name), description=text, partitions_def=partitions)
            for check, text in declaration.checks.items()
        ],
    )
    def materialize(context):  # type: ignore[no-untyped-def]  # Dagster refuses annotations that are strings
        yield from run(workspace, declaration, context)

    return materialize
