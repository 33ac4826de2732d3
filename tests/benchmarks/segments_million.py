"""How long segments take for a million customers: `python -m tests.benchmarks.segments_million`.

A simulated retail business of 20,000 customers, a year old, each customer fifty times with a little noise of its own,
lies in a lake as the chain would have written it: the features of the 28 days before, of which a week's seven days hold
the same. Six layers are fitted in each stage on the stated cap of customers and on ten times as many; then the day's
four steps are timed as the assets do them: clusters (with the weeks before, read from the lake and valued), then
micro-segments, audiences, profiles.

Beside the seconds by the clock stand those that the processor worked, on both cores together.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace
from typing import TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microseg_assets.assets.earlier import EarlierFeatures
from microseg_assets.project import Project
from microseg_assets.storage.lake import Lake
from microseg_assets.tracking import Tracking
from microseg_assets.workspace import Stored, Workspace
from ml import lifecycle, tables, value
from ml.engine import DuckDB
from ml.features import CustomerHistory, features_table
from ml.layers import (
    DEFAULT_LAYERS,
    LayerModels,
    LayerSpec,
    SegmentSpec,
    assign,
    fit_layers,
    layer_inputs,
    lookback_days,
)
from ml.layers.identity import matched_letters
from ml.lifecycle import LifecycleSpec
from ml.restate import Models, Specs, valued_history
from ml.sampling import sample_customers
from ml.segments import DEFAULT_AUDIENCES, audiences, micro_segments, profiles
from ml.simulate import BusinessSpec, block
from ml.value import ValueSpec

T = TypeVar("T")
LAYERS = (*DEFAULT_LAYERS, LayerSpec("baskets", ("average_order_90d", "items_90d"), "how they fill a basket"))
STAGES = 6
DAY_LIMIT, FIT_LIMIT, MOVED_LIMIT = 6.0, 90.0, 0.03  # seconds, seconds, share of a layer's assignments
CUSTOMERS, TIMES = 20_000, 50


def business() -> tuple[DuckDB, CustomerHistory, date]:
    """The facts of the simulated business, and its last Thursday."""
    engine = DuckDB()
    spec = BusinessSpec(preset="retail", customers=CUSTOMERS, days=364, seed=5)
    facts = block(spec, 0).history(engine)
    last = date.fromisoformat(spec.start) + timedelta(spec.days - 1)
    return engine, facts, last - timedelta((last.weekday() - 3) % 7)


def many(table: pa.Table, times: int, seed: int) -> pa.Table:
    """Each customer `times` times under ids of their own, numbers up to 2 % off; the same offset on every day."""
    parts = []
    for number in range(times):
        off = np.random.default_rng([seed, number])
        part = table
        ids = pc.binary_join_element_wise(table["customer_id"], pa.scalar(f"-{number:02d}"), "")
        for position, field in enumerate(table.schema):
            if field.name == "customer_id":
                part = part.set_column(position, field.name, ids)
            elif pa.types.is_floating(field.type):
                factor = pa.array(1 + 0.02 * off.standard_normal(len(table)))
                part = part.set_column(position, field, pc.multiply(table[field.name], factor))
        parts.append(part)
    return pa.concat_tables(parts).combine_chunks().sort_by("customer_id")


def timed(what: str, times: int, run: Callable[[], T]) -> tuple[T, float]:
    """Run, say the median seconds (and the processor's), and give back the last result."""
    walls, cpus = [], []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        result = run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    print(
        f"  {what:<34} {statistics.median(walls):6.2f} s  ({min(walls):.2f} … {max(walls):.2f}; "
        f"processor {statistics.median(cpus):.2f})",
        flush=True,
    )
    return result, statistics.median(walls)


def six_stages(stages: pa.Table, features: pa.Table) -> pa.Table:
    """The business's stages, and where it lacks one of six, a slice of its churned customers under that name."""
    text = np.array(stages["stage"].to_pylist(), dtype=object)
    for number, name in enumerate(one for one in ("prospect", "new", "star", "reengaged") if one not in set(text)):
        text[np.flatnonzero(text == "churn")[number::20]] = name
    return stages.set_column(stages.column_names.index("stage"), "stage", pa.array(text, pa.string()))


def written(
    lake: Lake, engine: DuckDB, facts: CustomerHistory, day: date, times: int
) -> tuple[pa.Table, tables.Table, Models]:
    """The features of the days before go into the lake; the day's `layer_inputs` and the models come back."""
    snapshot = features_table(facts.spec)
    specs = Specs(ValueSpec(), LifecycleSpec(), SegmentSpec(LAYERS))
    models = Models(
        cast(value.ValueModel, value.train(facts.until(day), day, specs.value, None).model), None, None, specs
    )
    features = many(facts.until(day).snapshot_of(day), times, 1)
    valued = value.apply(features, models.value, specs.value, label="bench")
    stages = lifecycle.assign_stages(engine, features, valued, None, specs.lifecycle)
    inputs = layer_inputs(engine, features, valued, six_stages(stages, features))
    for number, one in enumerate(reversed(lookback_days(day))):
        if number % 7 == 0:  # the last day of a week: everybody who was known on one of its days is in it
            rows = snapshot.conform(many(facts.until(one).snapshot_of(one), times, 1))
        lake.write(snapshot, one, rows)
    return inputs, snapshot, models


def shares_moved(inputs: pa.Table, one: LayerModels, other: LayerModels) -> Iterator[tuple[str, float]]:
    """Per layer the share of customers in another cluster, letters carried over as a refit would carry them."""
    parts = {stage: inputs.filter(pc.equal(inputs["stage"], stage)) for stage in pc.unique(inputs["stage"]).to_pylist()}
    for layer in one.layers:
        moved = 0
        for stage, part in parts.items():
            mine, theirs = one.of(stage, layer), other.of(stage, layer)
            ours, others = mine.assign(part), theirs.assign(part)
            letters = matched_letters(ours, mine.letters, others, len(theirs.letters))
            moved += int((np.array(mine.letters)[ours] != np.array(letters)[others]).sum())
        yield layer.name, moved / len(inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--times", type=int, default=TIMES, help=f"copies of {CUSTOMERS:,} customers")
    parser.add_argument("--runs", type=int, default=5, help="runs of the day's steps")
    arguments = parser.parse_args()
    engine, facts, day = business()
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder, "bench")
        inputs, snapshot, models = written(lake, engine, facts, day, arguments.times)
        stages = pc.unique(inputs["stage"]).to_pylist()
        print(f"{inputs.num_rows:,} customers in {len(stages)} stages ({', '.join(sorted(stages))}), {day}", flush=True)
        assert len(stages) == STAGES
        spec = SegmentSpec(LAYERS)

        def sample(cap: int) -> pa.Table:
            pairs = sample_customers(engine, inputs.select(["customer_id", "day"]), cap, spec.seed)
            position = pc.index_in(pairs["customer_id"], inputs["customer_id"].combine_chunks())
            return inputs.take(position)

        model, fit = timed(f"fit on {spec.max_rows:,}", 1, lambda: fit_layers(sample(spec.max_rows), spec))
        larger = fit_layers(inputs, replace(spec, max_rows=10 * spec.max_rows))
        workspace = Workspace(
            cast(Project, SimpleNamespace(features_table=snapshot)), lake, engine, cast(Tracking, None),
            stored={"customer_features": Stored(snapshot)}, reads={"customer_features": {}},
        )  # fmt: skip
        models = replace(models, layers=model)
        history = valued_history(EarlierFeatures(workspace, models), models)
        rows, seconds = timed("clusters, with the weeks before", arguments.runs, lambda: assign(inputs, model, history))
        total = seconds
        strings, seconds = timed("micro-segments", arguments.runs, lambda: micro_segments(engine, inputs, rows, spec))
        total += seconds
        total += timed("audiences", arguments.runs, lambda: audiences(engine, inputs, DEFAULT_AUDIENCES))[1]
        total += timed("profiles", arguments.runs, lambda: profiles(engine, strings, inputs, model.names()))[1]
        print(f"  the day                            {total:6.2f} s  (limit {DAY_LIMIT:g}); weekly fit {fit:.1f} s "
              f"(limit {FIT_LIMIT:g})")  # fmt: skip
        said = ", ".join(f"{layer} {share:.1%}" for layer, share in shares_moved(inputs, model, larger))
        print(f"  moved by a sample of {inputs.num_rows:,}: {said} (limit {MOVED_LIMIT:.0%})")


if __name__ == "__main__":
    main()
