"""A small simulated shop in its own state folder, and what the integration tests do with it.

Everything is real: Dagster's instance with the event log that `microseg` sets up, MLflow on SQLite, Great Expectations,
the lake. Belongs here: making, copying and querying a shop. Does not belong here: any claim.
"""

from __future__ import annotations

import csv
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microseg_assets import runs
from microseg_assets.build import load_workspace
from microseg_assets.families import FAMILIES
from microseg_assets.home import Home
from microseg_assets.planning.plan import PlannedRun, plan
from microseg_assets.workspace import Workspace
from ml import tables
from ml.simulate import ShopSpec, SimulatedAction, simulate, write

# Nearly half a day ahead of the stamps, which are UTC, and with a clock change within the days that are made: code that
# takes the date of a stamp for its day, or a day for 24 hours, fails.
ZONE = ZoneInfo("Pacific/Auckland")
START, END = date(2024, 1, 1), date(2024, 5, 9)
MONDAY, FRIDAY = date(2024, 4, 22), date(2024, 4, 26)  # the first days with more than features
SUNDAY, NEXT_MONDAY, WEDNESDAY = date(2024, 4, 28), date(2024, 4, 29), date(2024, 5, 1)
WEEK_BEFORE, WEEK = date(2024, 4, 15), MONDAY  # the training weeks that serve Sunday, and the Monday after it

STAMPS = {
    "transactions": "occurred_at", "customers": "registered_at", "events": "occurred_at", "exposures": "exposed_at",
}  # fmt: skip
ACTIONS = (
    SimulatedAction("coupon", on_all=2.0, cost=0.5, channel="app", is_coupon=True),
    SimulatedAction("call", cost=4.0, channel="phone"),
)

PROJECT = """\
name: {name}
time_zone: Pacific/Auckland
start: 2024-01-01
end: 2024-05-09
tables:
  transactions: {{path: {name}/transactions.csv, time_zone: UTC}}
  exposures: {{path: {name}/exposures.csv, time_zone: UTC}}
{tables}
value: {{horizon_days: 28, warm_up_days: 14, snapshots: 2, snapshot_step_days: 14, min_customers: 50, margin: -0.05}}
segments: {{min_cluster_customers: 15, warm_up_days: 14}}
journeys: {{weeks: 6, min_customers: 100, bootstraps: 50}}
actions:
  min_cell_customers: 15
  actions:
    - {{name: coupon, cost: 0.5, channel: app}}
    - {{name: call, cost: 4.0, channel: phone}}
"""
CUSTOMERS_AND_EVENTS = """\
  customers:
    path: {name}/customers.csv
    time_zone: UTC
    attributes: {{age_band: string, region: string, device: string}}
  events: {{path: {name}/events.csv, time_zone: UTC}}
"""

# Some rows of a delivery are broken, but on no day too many.
BAD_TRANSACTIONS: tuple[dict[str, str], ...] = (
    {"customer_id": "C000001", "occurred_at": "2024-04-20 03:00:00", "amount": "oops", "transaction_id": "X1"},
    {"customer_id": "", "occurred_at": "2024-04-26 22:00:00", "amount": "1.5", "transaction_id": "X2"},
    {"customer_id": "C000001", "occurred_at": "2024-04-29 22:00:00", "amount": "1e12", "transaction_id": "X3"},
    {"customer_id": "C000001", "occurred_at": "2023-12-30 10:00:00", "amount": "1.5", "transaction_id": "X4"},
    {"customer_id": "C000001", "occurred_at": "", "amount": "1.5", "transaction_id": "X5"},
)
BAD_EXPOSURES: tuple[dict[str, str], ...] = (
    {"customer_id": "C000001", "exposed_at": "2023-12-20 06:00:00", "action": "call"},
)


@dataclass(frozen=True)
class Shop:
    """A project in a state folder.

    Parameters
    ----------
    folder : the state folder, `$MICROSEG_HOME`
    name : name of the project; its file and data are in the state folder too, so that a copy is self-contained
    """

    folder: Path
    name: str = "shop"

    # ── making one ────────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def new(cls, folder: Path, name: str = "shop", *, randomised: bool = True) -> Shop:
        """Deliver the shop's data and write its project file. If not randomised, with the fewest tables."""
        shop = cls(folder, name)
        spec = ShopSpec(customers=350, days=130, seed=8, actions=ACTIONS, randomised=randomised, campaign_every_days=31)
        write(simulate(spec), shop.data)
        more = CUSTOMERS_AND_EVENTS.format(name=name) if randomised else ""
        shop.file.write_text(PROJECT.format(name=name, tables=more), encoding="utf-8")
        if randomised:
            shop.deliver("transactions", [*shop.delivered("transactions"), *BAD_TRANSACTIONS])
            shop.deliver("exposures", [*shop.delivered("exposures"), *BAD_EXPOSURES])
        return shop

    def copied_to(self, folder: Path) -> Shop:
        """A copy of the whole state, with the path of the folder replaced in Dagster's and MLflow's files."""
        shutil.copytree(self.folder, folder)
        settings = folder / "dagster" / "dagster.yaml"
        settings.write_text(settings.read_text().replace(str(self.folder), str(folder)))
        with sqlite3.connect(folder / "mlflow.db") as database:
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for _, column, type_, *_ in database.execute(f"PRAGMA table_info('{table}')").fetchall():
                    if "CHAR" in type_.upper() or "TEXT" in type_.upper():
                        moved = f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE "{column}" LIKE ?'
                        database.execute(moved, (str(self.folder), str(folder), f"%{self.folder}%"))
        database.close()
        return Shop(folder, self.name)

    # ── its data ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def file(self) -> Path:
        return self.folder / "projects" / f"{self.name}.yaml"

    @property
    def data(self) -> Path:
        return self.folder / "projects" / self.name

    def delivered(self, table: str) -> list[dict[str, str]]:
        """The lines of a table's file, as text."""
        with (self.data / f"{table}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def deliver(self, table: str, rows: Sequence[dict[str, str]]) -> None:
        """Replace a table's file."""
        with (self.data / f"{table}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), restval="")
            writer.writeheader()
            writer.writerows(rows)

    # ── running it ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def home(self) -> Home:
        return Home(self.folder)

    @cached_property
    def workspace(self) -> Workspace:
        """The workspace that the command line would use; runs build their own."""
        with self.environment():
            return load_workspace(str(self.file), self.home)

    @contextmanager
    def environment(self) -> Iterator[None]:
        """The environment of a process that uses this state folder."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("MICROSEG_LAKE", "MICROSEG_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
                patch.delenv(name, raising=False)
            patch.setenv("MICROSEG_HOME", str(self.folder))
            patch.setenv("DAGSTER_HOME", str(self.folder / "dagster"))
            self.home.prepare()
            yield

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with self.environment(), dg.DagsterInstance.get() as instance:
            yield instance

    def run(self, first: date, last: date | None = None) -> None:
        """What `microseg run --from FIRST --to LAST` executes."""
        with self.instance() as instance:
            for run in plan(self.workspace, first, last or first):
                runs.execute(run, str(self.file), self.home, instance)

    def execute(self, job: str, first: date, last: date | None = None, *, assets: Sequence[str] = ()) -> None:
        """One job, or some of its assets, over a range of partitions, whatever exists already."""
        run = PlannedRun(job, first, last or first, 0, "", "", tuple(assets))
        with self.instance() as instance:
            runs.execute(run, str(self.file), self.home, instance)

    # ── querying it ─────────────────────────────────────────────────────────────────────────────────────────────────

    def days(self, asset: str) -> list[date]:
        """The partitions of an asset that exist, ascending."""
        return sorted(self.workspace.partitions(asset).dates())

    def table(self, asset: str, key: date) -> pa.Table:
        return self.workspace.partitions(asset).read(key)

    def rows(self, asset: str, key: date) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.table(asset, key).to_pylist()
        return rows

    def choices(self, week: date) -> dict[str, dict[str, Any]]:
        lake = self.workspace.lake
        return {family: lake.read(tables.MODEL_CHOICES, week, family=family).to_pylist()[0] for family in FAMILIES}

    def partitions(self, last: date = date.max) -> dict[str, Path]:
        """Every partition of every table up to `last` (weeks that had ended by then), the undated quarantine too."""
        root = self.folder / "lake" / self.name
        paths = {path.parent.relative_to(root).as_posix(): path for path in root.rglob("part-0.parquet")}
        return {name: path for name, path in sorted(paths.items()) if _end(name) <= last}

    def registered(self) -> dict[str, dict[int, str]]:
        """Model to version to fingerprint, as MLflow's registry holds them."""
        from mlflow import MlflowClient

        fingerprints: dict[str, dict[int, str]] = {}
        for version in MlflowClient(self.home.mlflow_uri, self.home.mlflow_uri).search_model_versions():
            if version.name.startswith(f"{self.name}."):
                fingerprints.setdefault(version.name, {})[int(version.version)] = version.tags["fingerprint"]
        return fingerprints

    def champions(self) -> dict[str, int]:
        """Model to the version under its alias `champion`."""
        from mlflow import MlflowClient

        models = MlflowClient(self.home.mlflow_uri, self.home.mlflow_uri).search_registered_models()
        own = [model for model in models if model.name.startswith(f"{self.name}.")]
        return {model.name: int(model.aliases["champion"]) for model in own if "champion" in model.aliases}

    def recorded(self, asset: str) -> set[str]:
        """The partitions of an asset that Dagster's event log calls materialized."""
        with self.instance() as instance:
            return instance.get_materialized_partitions(self.workspace.key(asset))


def _end(partition: str) -> date:
    dimension, _, key = partition.rpartition("/")[2].partition("=")
    if key == "undated":
        return date.min
    return date.fromisoformat(key) + timedelta(days=6 if dimension == "week" else 0)


def differences(left: dict[str, Path], right: dict[str, Path]) -> list[str]:
    """Partitions that are only on one side, or that do not hold the same rows; the order of rows does not count."""
    lines = [f"{name}: only on one side" for name in sorted(left.keys() ^ right.keys())]
    for name in sorted(left.keys() & right.keys()):
        ours, theirs = pq.ParquetFile(left[name]).read(), pq.ParquetFile(right[name]).read()
        if ours.equals(theirs):
            continue
        unequal = set(map(repr, ours.to_pylist())) ^ set(map(repr, theirs.to_pylist()))
        if unequal or ours.num_rows != theirs.num_rows:
            examples = "; ".join(sorted(unequal)[:2])
            lines.append(f"{name}: {ours.num_rows} and {theirs.num_rows} rows, {len(unequal)} unequal: {examples:.600}")
    return lines


def day_of(stamp: str) -> date | None:
    """The project's day of a stamp of the shop's files; None for one without."""
    if not stamp:
        return None
    return datetime.fromisoformat(stamp).replace(tzinfo=UTC).astimezone(ZONE).date()


def with_another_future(shop: Shop, after: date) -> None:
    """Change, delete and add what is dated after a day, in every table, and nothing else."""
    for table, stamp in STAMPS.items():
        rows = shop.delivered(table)
        kept = [row for row in rows if (day := day_of(row[stamp])) is None or day <= after]
        future = [row for row in rows if row not in kept]
        assert future, f"{table} has no future to change"
        shop.deliver(table, kept + _changed(table, stamp, future, kept))


def _changed(table: str, stamp: str, future: list[dict[str, str]], past: list[dict[str, str]]) -> list[dict[str, str]]:
    changed = []
    for number, row in enumerate(future):
        if number % 3 == 0:
            continue  # deleted
        new = dict(row)
        if number % 3 == 1:
            new["customer_id"] = f"NEW{number % 17}"
        for name, value in {"amount": "977.5", "category": "novelty", "action": "call", "event_type": "visit2"}.items():
            if name in new:
                new[name] = value
        if table == "customers":
            new |= {"customer_id": f"LATE{number}", "region": "moon", "age_band": "0-17"}
        changed.append(new)
        if number % 3 == 1:
            other_ids = {
                name: f"other{number}" for name in ("customer_id", "transaction_id", "order_id") if name in new
            }
            changed.append(new | other_ids)
    last = dict(future[-1])
    again = dict(past[-1]) | {stamp: last[stamp]}  # an earlier row is delivered once more, as of a later day
    return [*changed, again, *([last | {"amount": "oops"}] if table == "transactions" else [])]
