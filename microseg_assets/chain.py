"""What every asset of the chain has in common: its key, partitions, dependencies, and what a body gets to work with.

One declaration per asset (what it reads and how far, what it writes) gives Dagster's dependencies and partition
mappings, the refusal to work on missing upstream partitions, and the metadata of each partition. Bodies live in
`assets/`, dates in `partitions`, formulas in `ml`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from graphlib import TopologicalSorter
from typing import Any

import dagster as dg
import pyarrow as pa

from expectations.docs import data_docs
from microseg_assets import metadata, progress
from microseg_assets.lake import MissingPartitions
from microseg_assets.partitions import Reach
from microseg_assets.step import Step
from microseg_assets.trailing import past_of
from microseg_assets.workspace import Stored, Workspace
from ml import tables

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
DATA_DOCS = "data-docs.html"
REFUSAL = "refusal.txt"  # what the run said of a day that it refused, beside the page
Body = Callable[[Step], None]


@dataclass
class Chain(Workspace):
    """A workspace with the assets that are declared in it; hands out their definitions.

    Parameters
    ----------
    reads : asset to the assets that it reads, and how far it looks into each
    groups : asset to the link of the chain that it belongs to
    removed_in : run to its customers: see `taken_in.removed_in`
    """

    reads: dict[str, dict[str, Reach]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    removed_in: dict[str, pa.Array] = field(default_factory=dict)

    def is_weekly(self, name: str) -> bool:
        return self.stored[name].table.dimensions[-1] == "week"

    def in_order(self) -> list[str]:
        """Names of all assets, each after what it reads."""
        sorter = TopologicalSorter({name: set(reads) - {name} for name, reads in self.reads.items()})
        place = {group: number for number, group in enumerate(OWNERS)}
        depth = {name: number for number, name in enumerate(sorter.static_order())}
        return sorted(depth, key=lambda name: (place[self.groups[name]], depth[name]))

    def asset(
        self,
        group: str,
        *,
        writes: tables.Table | Stored,
        reads: Mapping[str, Reach] | None = None,
        kinds: Iterable[str] = ("duckdb", "parquet"),
        checks: Mapping[str, str] | None = None,
        code_version: str = "1",
    ) -> Callable[[Body], dg.AssetsDefinition]:
        """Make an asset of a body.

        Parameters
        ----------
        group : the link of the chain it belongs to
        writes : its table; `day` or `week` as the last dimension decides its partitions
        reads : upstream assets, and how far it looks into each; those of tables that are not brought are left out
        checks : names and descriptions of the checks that the body reports
        """
        stored = writes if isinstance(writes, Stored) else Stored(writes)

        def decorate(body: Body) -> dg.AssetsDefinition:
            name = body.__name__
            there = {upstream: reach for upstream, reach in (reads or {}).items() if not self.is_off(upstream)}
            self.stored[name], self.reads[name], self.groups[name] = stored, there, group
            checked = dict(checks or {})
            partitions = self.calendar.weekly if self.is_weekly(name) else self.calendar.daily

            @dg.asset(
                name=name,
                key_prefix=self.project.name,
                partitions_def=partitions,
                backfill_policy=dg.BackfillPolicy.single_run(),
                deps=[
                    dg.AssetDep(self.key(upstream), partition_mapping=reach.mapping)
                    for upstream, reach in self.reads[name].items()
                ],
                group_name=group,
                owners=[OWNERS[group]],
                kinds=set(kinds),
                code_version=code_version,
                description=(body.__doc__ or "").strip(),
                metadata=metadata.of_table(stored.table),
                check_specs=[
                    dg.AssetCheckSpec(check, asset=self.key(name), description=text, partitions_def=partitions)
                    for check, text in checked.items()
                ],
            )
            def asset(context):  # type: ignore[no-untyped-def]  # Dagster refuses annotations that are strings
                yield from _run(self, name, body, list(checked), context)

            return asset

        return decorate

    def family(
        self,
        family: str,
        *,
        group: str,
        reads: Iterable[str] = (),
        kinds: Iterable[str] = ("mlflow",),
        checks: Mapping[str, str] | None = None,
    ) -> Callable[[Body], dg.AssetsDefinition]:
        """Make the weekly asset of a model family: it reads accepted rows up to the end of its week, the choices of
        the families before it in `reads`, and its own choice of the week before; it writes its choice."""

        def decorate(body: Body) -> dg.AssetsDefinition:
            own = dict.fromkeys(tables.INPUTS, Reach.DAYS_TO_WEEK_END)
            upstream = dict.fromkeys(reads, Reach.SAME_WEEK)
            return self.asset(
                group,
                writes=Stored(tables.MODEL_CHOICES, {"family": family}),
                reads={**own, **upstream, body.__name__: Reach.PREVIOUS_WEEK},
                kinds=kinds,
                checks=checks,
            )(body)

        return decorate

    def data_docs(self, table: str, day: date, rows: pa.Table, undated: int = 0) -> str:
        """Put Great Expectations' page of a day's delivered rows beside its quarantine; returns its URL."""
        past = past_of(self, table, [day]) if self.sources[table] else None
        page = data_docs(self.engine, self.project.inputs[table], rows, day, self.project.validation, past, undated)
        return self.lake.put_file(tables.QUARANTINE, day, DATA_DOCS, page.encode(), table=table)

    def was_refused(self, table: str, day: date) -> bool:
        """Whether the last verdict on a day was a refusal: its page lies beside the quarantine until the day passes."""
        return self.lake.read_file(tables.QUARANTINE, day, DATA_DOCS, table=table) is not None

    def remedy(self, name: str, keys: Sequence[str]) -> str:
        """The command and the job that make missing partitions of an asset."""
        first, last = min(keys), max(keys)
        if self.is_weekly(name):
            last = self.calendar.week_end(date.fromisoformat(last)).isoformat()
        job = "weekly" if self.is_weekly(name) else "daily"
        return (
            f"Make them with: microseg run --project {self.project.reference} --from {first} --to {last} "
            f"(or, in the UI, job {self.project.name}_{job} for {min(keys)} … {max(keys)})"
        )


def _require(chain: Chain, name: str, keys: Sequence[date]) -> None:
    """Refuse to work on missing upstream partitions, with the command that makes them."""
    for upstream, reach in chain.reads[name].items():
        stored = chain.stored[upstream]
        there = set(chain.lake.keys(stored.table, **stored.fixed))
        needed = {k for key in keys for k in chain.calendar.upstream(reach, key)}
        if upstream == name:
            needed -= set(keys)
        if reach == Reach.SEVEN_DAYS:
            needed &= set(keys)
        if reach.may_begin:
            # The first partition ever made has nothing before it; a gap behind existing ones is an error.
            begin = min(there, default="9999")
            needed = {k for k in needed if k in keys or k.isoformat() > begin}
        gone = sorted(str(k) for k in needed if str(k) not in there)
        if gone:
            missing = MissingPartitions(upstream, gone)
            raise dg.Failure(
                f"{name} of {min(keys)}{f' … {max(keys)}' if len(keys) > 1 else ''} cannot be made: {missing}. "
                f"{chain.remedy(upstream, gone)}",
                metadata={"missing": dg.MetadataValue.json(gone[:1000])},
                allow_retries=False,
            )


def _run(
    chain: Chain, name: str, body: Body, checks: Sequence[str], context: dg.AssetExecutionContext
) -> Iterator[Any]:
    step = Step(chain, name, context, [date.fromisoformat(key) for key in context.partition_keys])
    started = time.perf_counter()
    progress.begin(name, len(step.keys))
    _require(chain, name, step.keys)
    try:
        body(step)
    except BaseException:
        step.record_what_is_there()
        raise
    for key, values in step.written.items():
        context.add_asset_metadata(values, partition_key=key.isoformat())
    step.report_checks()
    progress.done(name, len(step.keys), time.perf_counter() - started)
    for check in checks:
        yield step.check_result(check)
    yield dg.MaterializeResult()
