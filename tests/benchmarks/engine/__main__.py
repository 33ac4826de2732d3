"""What the engine room takes in time and memory, beside a notebook and a floor: `make bench`.

    make bench                                             # 10,000 customers, some minutes
    make bench ARGS="--customers 2500 10000 100000"        # sizes; with three, exponents of growth
    make bench ARGS="--customers 100000 --backfill"        # 90 days like for like, too
    make bench ARGS="--also ../before"                     # another checkout, in the same run
    make bench ARGS="--profile training_week"              # where the time goes, by function
    make bench ARGS="--from .bench/latest.json --readme"   # the README's table of an earlier run

Belongs here: the options, what is measured in which order, how often, and the JSON. Does not belong here: how each is
measured (see `system`, `peer`, `floor`), and how it is printed (see `report`).

Each phase runs in fresh processes through the command line, on a state folder of its own; what takes less than a minute
runs three times, and the median run counts. The JSON has, for each size, `system` (this checkout), `others`, `notebook`
and `floor`; of a phase the seconds, those of the processor and of imports, the peak memory, and the same of each asset.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.benchmarks.engine import data, machine, measure, peer, report
from tests.benchmarks.engine.system import Checkout, System

ROOT = Path(__file__).parents[3]
WORK = ROOT / ".bench"
SIZE = 10_000
RUNS, ONCE_FROM_SECONDS = 3, 60.0
BACKFILL_DAYS = 90
PROFILED = 30  # functions


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--customers", type=int, nargs="+", default=[SIZE], metavar="N", help="sizes, ascending")
    parser.add_argument("--backfill", type=int, nargs="?", const=BACKFILL_DAYS, default=0, metavar="DAYS",
                        help=f"backfill DAYS days too (default of the flag: {BACKFILL_DAYS})")  # fmt: skip
    parser.add_argument("--days", type=int, default=data.DAYS, help=f"length of the history (default: {data.DAYS})")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of what takes less than a minute")
    parser.add_argument("--no-notebook", action="store_true", help="leave the notebook out")
    parser.add_argument("--notebook-python", type=Path, default=WORK / "notebook" / "bin" / "python",
                        help=argparse.SUPPRESS)  # fmt: skip
    parser.add_argument("--also", type=Path, action="append", default=[], metavar="FOLDER",
                        help="measure another checkout too, whose `make venv` has been run")  # fmt: skip
    parser.add_argument("--profile", choices=list(report.PHASES), metavar="PHASE",
                        help="instead, profile one phase by function: " + ", ".join(report.PHASES))  # fmt: skip
    parser.add_argument(
        "--from", dest="earlier", type=Path, metavar="JSON", help="print an earlier run; measure nothing"
    )
    parser.add_argument("--readme", action="store_true", help="print the README's table, in Markdown")
    parser.add_argument("--folder", type=Path, default=WORK, help="where data, state and results are kept")
    parser.add_argument("--keep", action="store_true", help="keep the state folders")
    return parser.parse_args(arguments)


def say(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S}  {text}", file=sys.stderr, flush=True)


def repeated(what: str, take: Callable[[], dict[str, Any]], runs: int) -> dict[str, Any]:
    """The median run of several, or the only one if it takes a minute; with the seconds of each."""
    taken = [take()]
    while len(taken) < runs and taken[0]["seconds"] < ONCE_FROM_SECONDS:
        taken.append(take())
    median = sorted(taken, key=lambda one: one["seconds"])[len(taken) // 2]
    seconds = [round(one["seconds"], 2) for one in taken]
    say(f"{what}: {', '.join(map(str, seconds))} s, {median['peak_mb'] / 1024:.2f} GB")
    return {**median, "runs": seconds}


def data_of(customers: int, chosen: argparse.Namespace) -> Path:
    """The folder of a data set, which is made if it is not there."""
    made: Path = chosen.folder / "data" / f"{customers}-{chosen.days}"
    if not (made / "exposures.parquet").exists():  # the last to be written
        say(f"writing {customers:,} customers to {made}")
        data.write(customers, made, chosen.days + 1)
    return made


def measure_system(system: System, chosen: argparse.Namespace, label: str) -> dict[str, Any]:
    """Every phase of one checkout on one data set."""
    phases: dict[str, Callable[[], dict[str, Any]]] = {
        "first_run": system.first_run, "next_day": system.next_day, "training_week": system.training_week,
    }  # fmt: skip
    if chosen.backfill:
        phases["backfill"] = lambda: system.backfill(chosen.backfill)
    took: dict[str, Any] = {"commit": system.checkout.commit}
    for phase, take in phases.items():
        took[phase] = repeated(f"{label}: {report.PHASES[phase]}", take, chosen.runs)
    return {**took, "size": system.size()}


def measure_size(customers: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """This checkout, the others, the notebook and the floor on one data set."""
    source = data_of(customers, chosen)
    result: dict[str, Any] = {
        "customers": customers,
        "transactions": pq.read_metadata(source / "transactions.parquet").num_rows,
        "others": [],
        "notebook": None,
    }
    label = f"{customers:,} customers"
    system = System(Checkout(ROOT), source, chosen.days, chosen.folder / "state" / str(customers))
    if not chosen.no_notebook:
        out = chosen.folder / "out" / str(customers)
        python, backfill = chosen.notebook_python, chosen.backfill
        result["notebook"] = repeated(
            f"{label}, notebook", lambda: peer.run(python, source, out, system.as_of, backfill=backfill), chosen.runs
        )
    result["system"] = measure_system(system, chosen, label)
    result["floor"] = floor(system, chosen)
    if not chosen.keep:
        shutil.rmtree(system.folder)
    for number, other in enumerate(chosen.also):
        folder = chosen.folder / "state" / f"{customers}-{number}"
        before = System(Checkout(other.absolute()), source, chosen.days, folder)
        result["others"].append(measure_system(before, chosen, f"{label}, {before.checkout.commit}"))
        if not chosen.keep:
            shutil.rmtree(folder)
    return result


def floor(system: System, chosen: argparse.Namespace) -> dict[str, Any]:
    """The floor of the day that the system has made."""
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "tests.benchmarks.engine.floor",
        system.home,
        system.as_of.isoformat(),
    ]
    took = measure.run(command, folder=ROOT)
    taken: dict[str, Any] = {**json.loads(took.output), "peak_mb": took.peak_mb}
    say(f"floor: {taken['seconds']:.2f} s, {taken['peak_mb'] / 1024:.2f} GB")
    return taken


def measure_all(chosen: argparse.Namespace) -> dict[str, Any]:
    """The results of a run, as they are stored."""
    results: dict[str, Any] = {
        "date": datetime.now().date().isoformat(),
        "commit": Checkout(ROOT).commit,
        "machine": machine.describe(),
        "versions": machine.versions(),
        "options": {"runs": chosen.runs, "backfill_days": chosen.backfill, "days": chosen.days},
        "results": [],
    }
    started = time.monotonic()
    for customers in sorted(chosen.customers):
        results["results"].append(measure_size(customers, chosen))
    results["growth"] = report.growths(results)
    results["limits"] = report.judged(results)
    results["minutes"] = round((time.monotonic() - started) / 60, 1)
    return results


def store(results: dict[str, Any], folder: Path) -> Path:
    """Write the results as JSON, by date and commit and as the latest; returns the former."""
    text = json.dumps(results, indent=1)
    file = folder / f"{results['date']}-{results['commit'].rstrip('+')}.json"
    for path in (file, folder / "latest.json"):
        path.write_text(text + "\n", encoding="utf-8")
    return file


def profile(chosen: argparse.Namespace) -> None:
    """Print the functions of a phase that take the longest, by themselves and with all they call."""
    import pstats

    customers = chosen.customers[0]
    system = System(
        Checkout(ROOT), data_of(customers, chosen), chosen.days, chosen.folder / "state" / f"{customers}-profile"
    )
    phases: dict[str, Callable[[], object]] = {
        "first_run": system.first_run, "next_day": system.next_day, "training_week": system.training_week,
        "backfill": lambda: system.backfill(chosen.backfill or BACKFILL_DAYS),
    }  # fmt: skip
    if chosen.profile != "first_run":
        say("the first run, which makes the state")
        system.first_run()
    say(f"{report.PHASES[chosen.profile]}, {customers:,} customers, under cProfile")
    system.profile_to = chosen.folder / f"{chosen.profile}-{customers}.prof"
    phases[chosen.profile]()
    for order in ("tottime", "cumulative"):
        pstats.Stats(str(system.profile_to)).strip_dirs().sort_stats(order).print_stats(PROFILED)
    print(f"the whole profile: {system.profile_to}")
    if not chosen.keep:
        shutil.rmtree(system.folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, or print an earlier run, or profile."""
    chosen = options(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    if chosen.profile:
        profile(chosen)
        return
    if chosen.earlier:
        results = json.loads(chosen.earlier.read_text(encoding="utf-8"))
    else:
        results = measure_all(chosen)
        say(f"stored in {store(results, chosen.folder)}")
    print("\n".join(report.markdown(results) if chosen.readme else report.lines(results)))


if __name__ == "__main__":
    main()
