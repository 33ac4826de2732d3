"""What every asset of the chain has in common: its key, partitions, dependencies, and what a body gets to work with.

One declaration per asset (what it reads and how far, what it writes) gives Dagster's dependencies and partition
mappings, the refusal to work on missing upstream partitions, and the metadata of each partition. Bodies live in
`assets/`, dates in `partitions`, formulas in `ml`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Any

import dagster as dg
import pyarrow as pa

from expectations.docs import data_docs
from microseg_assets import metadata, progress
from microseg_assets.lake import Lake, MissingPartitions
from microseg_assets.partitions import Calendar, Reach
from microseg_assets.project import Project
from microseg_assets.sources import Source
from microseg_assets.step import Step
from microseg_assets.tracking import Tracking
from microseg_assets.trailing import past_of
from ml import tables
from ml.engine import Engine, Input
from ml.features import Facts, repeated_orders, undone_orders
from ml.restate import Models
from ml.segments import SegmentSpec

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
FAMILIES = ("value", "lifecycle", "layers", "transitions", "action-response")
RESTATING = ("value", "lifecycle", "layers")  # the families whose models decide a customer's micro-segment
Body = Callable[[Step], None]


@dataclass(frozen=True)
class Stored:
    """Where an asset's partitions lie: a table, and the values of its partition dimensions before the last.

    `beside` are tables that are written with it.
    """

    table: tables.Table
    fixed: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[tables.Table, ...] = ()


@dataclass(frozen=True)
class Choice:
    """A family's choice in force: its model (of the family's own class), or None with the reason."""

    model: Any
    label: str
    version: int | None
    reason: str


@dataclass
class Chain:
    """A project and the parts its assets work with; hands out asset definitions.

    Parameters
    ----------
    project : the project file, validated
    lake, engine, tracking : where tables live, what runs queries, where models are logged
    """

    project: Project
    lake: Lake
    engine: Engine
    tracking: Tracking
    stored: dict[str, Stored] = field(default_factory=dict)
    reads: dict[str, dict[str, Reach]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    removed_in: dict[str, pa.Array] = field(default_factory=dict)  # run to its customers: see `taken_in.removed_in`

    @property
    def calendar(self) -> Calendar:
        return self.project.calendar

    @cached_property
    def sources(self) -> dict[str, Source | None]:
        """Where each input table comes from; None for those the business does not bring."""
        return {name: self.project.source(name) for name in tables.INPUTS}

    def is_off(self, name: str) -> bool:
        """Whether an asset is about an input table that the business does not bring: then there is no such asset."""
        table = name.removeprefix("raw_")
        return table in tables.INPUTS and self.sources[table] is None

    def brought(self) -> list[str]:
        """The input tables that the business brings."""
        return [name for name, source in self.sources.items() if source is not None]

    def accepted_of(self, table: str, days: Sequence[date]) -> Input:
        """Accepted rows of an input table, as the engine reads them; none of one that is not brought."""
        rows = self.project.inputs[table]
        return rows.empty_days() if self.is_off(table) else self.lake.files(rows, days)

    def key(self, name: str) -> dg.AssetKey:
        return dg.AssetKey([self.project.name, name])

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

    def choice(self, family: str, week: date | None) -> Choice:
        """What a family chose in `week`; the baseline before the first week."""
        if week is None:
            return Choice(None, "baseline", None, "no training week has ended before this day")
        row = self.lake.read(tables.MODEL_CHOICES, week, family=family).to_pylist()[0]
        if row["version"] is None:
            return Choice(None, "baseline", None, row["reason"])
        model = self.tracking.load(row["model_name"], row["version"])
        return Choice(model, f"{row['model_name']}/{row['version']}", row["version"], row["reason"])

    def choice_rows(self, week: date | None) -> list[dict[str, Any]]:
        """The rows of `model_choices` of a week, as far as they are there."""
        if week is None:
            return []
        rows = []
        for family in FAMILIES:
            if not self.lake.missing(tables.MODEL_CHOICES, [week], family=family):
                rows += self.lake.read(tables.MODEL_CHOICES, week, family=family).to_pylist()
        return [{**row, "week": week} for row in rows]

    def models(self, week: date | None, *, without: Sequence[str] = ()) -> Models:
        """The value, lifecycle and layer models that a week chose, for everything that restates days under them."""
        chosen: dict[str, Any] = {
            family: None if family in without else self.choice(family, week).model for family in RESTATING
        }
        return Models(**chosen, specs=replace(self.project.specs, segments=self._segments(chosen["layers"])))

    def segments_in_force(self, week: date | None) -> SegmentSpec:
        """The layers of the model in force: what the project file says anew counts from the next training week on."""
        return self._segments(self.choice("layers", week).model)

    def _segments(self, model: Any) -> SegmentSpec:
        spec = self.project.segments
        return spec if model is None else replace(spec, layers=model.layers)

    def same_models(self, left: date | None, right: date | None) -> bool:
        """Whether two weeks chose the same versions of the models that decide a customer's micro-segment."""
        return left == right or all(self.choice(f, left).label == self.choice(f, right).label for f in RESTATING)

    def facts(self, last: date) -> Facts:
        """Facts summed from accepted rows, none later than `last`."""
        days = self.calendar.days(self.calendar.start, last)
        return self.facts_of(days)

    def facts_of(self, days: Sequence[date]) -> Facts:
        """Facts summed from the accepted rows of some days."""
        return Facts.from_rows(self.engine, self.project.feature_spec, **self.accepted(days))

    def accepted(self, days: Sequence[date]) -> dict[str, Input]:
        """The accepted rows of some days by input table, as the engine reads them."""
        return {name: self.accepted_of(name, days) for name in self.project.inputs}

    def facts_so_far(self, last: date) -> Facts:
        """Facts as `customer_days` holds them, none later than `last`."""
        days = self.calendar.days(self.calendar.start, last)
        facts = Facts(
            self.engine,
            self.project.feature_spec,
            self.lake.files(tables.CUSTOMER_DAYS, days),
            self.lake.files(tables.CATEGORY_DAYS, days),
            self.accepted_of("customers", days),
        )
        gone = set(self.lake.missing(tables.ORDER_DAYS, days))  # days that were made before parts were looked for
        orders = self.lake.files(tables.ORDER_DAYS, [day for day in days if day.isoformat() not in gone])
        repeated = repeated_orders(self.engine, orders, facts.spec.order_days)
        if facts.spec.undo_within_days is None:  # then no day needs the lines of all days before it
            return replace(facts, repeated_orders=repeated)
        undone = undone_orders(self.engine, self.accepted_of("transactions", days), facts.spec.undo_within_days)
        return replace(facts, repeated_orders=repeated, undone_orders=undone)

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
