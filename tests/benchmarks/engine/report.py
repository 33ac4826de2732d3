"""What the benchmark prints: the table for a terminal, the README's, the limits and how near they are.

Belongs here: ratios, exponents of growth, limits, formatting. Does not belong here: measuring.

`results` is the JSON that a run writes; see `tests.benchmarks.engine.__main__` for its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.benchmarks.engine.system import LIKE_FOR_LIKE

PHASES = {
    "first_run": "first run, from nothing",
    "next_day": "a further day",
    "training_week": "a training week",
    "backfill": "backfill, like for like",
}
MIN_SIZES = 3  # for an exponent beside fixed costs
GROWTH_SIZES, MAX_GROWTH = {10_000, 1_000_000}, 1.0  # the sizes between which time may not grow faster than customers
NAME_WIDTH, CELL_WIDTH = 27, 14
Result = Mapping[str, Any]


@dataclass(frozen=True)
class Limit:
    """What a figure of a data set of some size may be at most.

    Parameters
    ----------
    what : the figure
    customers : the size
    bound : its limit
    unit : of the figure and its limit
    figure : computes it from the results of one size; None if something was not measured
    """

    what: str
    customers: int
    bound: float
    unit: str
    figure: Callable[[Result], float | None]


def _seconds(result: Result, phase: str) -> float | None:
    took = result["system"].get(phase)
    if took is None:
        return None
    return float(took["seconds_after_imports" if phase == "next_day" else "seconds"])


def _in_notebooks(phase: str) -> Callable[[Result], float | None]:
    """Seconds of a phase as a multiple of the notebook's whole run."""
    return lambda result: _ratio(_seconds(result, phase), (result.get("notebook") or {}).get("seconds"))


def _in_floors(phase: str) -> Callable[[Result], float | None]:
    return lambda result: _ratio(_seconds(result, phase), (result.get("floor") or {}).get("seconds"))


def _gigabytes(phase: str) -> Callable[[Result], float | None]:
    return lambda result: _ratio((result["system"].get(phase) or {}).get("peak_mb"), 1024)


def _memory_in_notebooks(phase: str) -> Callable[[Result], float | None]:
    def ratio(result: Result) -> float | None:
        notebook = result.get("notebook") or {}
        peak = notebook.get("backfill_peak_mb" if phase == "backfill" else "peak_mb")
        return _ratio((result["system"].get(phase) or {}).get("peak_mb"), peak)

    return ratio


def day_like_for_like(result: Result) -> float | None:
    """Seconds, after imports, of those steps of a day that the notebook has too."""
    took = result["system"].get("next_day")
    if took is None:
        return None
    assets = [took["assets"][name] for name in LIKE_FOR_LIKE if name in took["assets"]]
    return float(sum(asset["seconds"] - asset["import_seconds"] for asset in assets))


def _day_in_notebooks(result: Result) -> float | None:
    return _ratio(day_like_for_like(result), (result.get("notebook") or {}).get("day_seconds"))


def _backfill_in_notebooks(result: Result) -> float | None:
    took = result["system"].get("backfill")
    seconds = None if took is None else took["seconds_after_imports"]
    return _ratio(seconds, (result.get("notebook") or {}).get("backfill_seconds"))


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below


LIMITS = (
    Limit("training week", 2_500, 1.0, "N", _in_notebooks("training_week")),
    Limit("first run", 100_000, 3.0, "N", _in_notebooks("first_run")),
    Limit("first run", 100_000, 3.0, "GB", _gigabytes("first_run")),
    Limit("training week", 100_000, 0.8, "N", _in_notebooks("training_week")),
    Limit("training week", 100_000, 2.5, "N's memory", _memory_in_notebooks("training_week")),
    Limit("a day, after imports", 100_000, 0.25, "N", _in_notebooks("next_day")),
    Limit("a day", 100_000, 2.0, "GB", _gigabytes("next_day")),
    *(
        limit
        for customers in (100_000, 1_000_000)
        for limit in (
            Limit("a day, like for like", customers, 1 / 3, "notebook's", _day_in_notebooks),
            Limit("backfill, like for like", customers, 1 / 5, "notebook's", _backfill_in_notebooks),
            Limit("backfill, like for like", customers, 1 / 3, "N's memory", _memory_in_notebooks("backfill")),
        )
    ),
    Limit("training week", 1_000_000, 1.5, "N", _in_notebooks("training_week")),
    Limit("training week", 1_000_000, 6.0, "GB", _gigabytes("training_week")),
    Limit("a day, after imports", 1_000_000, 3.0, "floors", _in_floors("next_day")),
    Limit("a day", 1_000_000, 4.0, "GB", _gigabytes("next_day")),
)


def judged(results: Result) -> list[dict[str, Any]]:
    """Every limit whose size was measured: the figure, the limit, and whether it is kept."""
    rows = []
    for limit in LIMITS:
        for result in (one for one in results["results"] if one["customers"] == limit.customers):
            if (figure := limit.figure(result)) is not None:
                row = {"what": limit.what, "customers": limit.customers, "figure": figure, "limit": limit.bound}
                rows.append({**row, "unit": limit.unit, "is_kept": figure <= limit.bound})
    if {one["customers"] for one in results["results"]} >= GROWTH_SIZES:
        for phase, exponent in growths(results).items():
            if phase in PHASES:
                what = f"growth: {PHASES[phase].partition(',')[0]}"
                row = {"what": what, "customers": max(GROWTH_SIZES), "figure": exponent, "limit": MAX_GROWTH}
                rows.append({**row, "unit": "exponent", "is_kept": exponent <= MAX_GROWTH})
    return rows


def growth(sizes: Sequence[int], seconds: Sequence[float]) -> float | None:
    """The exponent p of seconds = fixed + slope · customers^p, fitted to relative errors; None for too few sizes."""
    from scipy.optimize import nnls

    if len(sizes) < MIN_SIZES or min(seconds) <= 0:
        return None
    customers, took = np.array(sizes, float) / min(sizes), np.array(seconds, float)
    exponents = np.arange(0.05, 2.505, 0.01)
    errors = [
        nnls(np.column_stack([np.ones(len(took)), customers**exponent]) / took[:, None], np.ones(len(took)))[1]
        for exponent in exponents
    ]
    return round(float(exponents[int(np.argmin(errors))]), 2)


def growths(results: Result) -> dict[str, float]:
    """The exponent of each phase, of the notebook and of the floor."""
    sizes = [result["customers"] for result in results["results"]]
    figures: dict[str, list[float | None]] = {
        phase: [(result["system"].get(phase) or {}).get("seconds_after_imports") for result in results["results"]]
        for phase in PHASES
    }
    figures["notebook"] = [(result.get("notebook") or {}).get("seconds") for result in results["results"]]
    figures["floor"] = [(result.get("floor") or {}).get("seconds") for result in results["results"]]
    exponents = {}
    for name, seconds in figures.items():
        measured = [one for one in seconds if one is not None]
        if len(measured) == len(sizes) and (exponent := growth(sizes, measured)) is not None:
            exponents[name] = exponent
    return exponents


# ── for a terminal ────────────────────────────────────────────────────────────────────────────────────────────────────


def lines(results: Result) -> Iterator[str]:
    """The whole table."""
    yield from _heading(results)
    sizes = results["results"]
    exponents = results["growth"]
    yield ""
    names = "".join(f"{one['customers']:>{CELL_WIDTH},}" for one in sizes)
    yield f"{'customers':<{NAME_WIDTH}}{names} growth"
    yield f"{'seconds and peak memory':<{NAME_WIDTH}}" + f"{'s':>{CELL_WIDTH - 6}}{'GB':>6}" * len(sizes)
    notebooks = [one.get("notebook") for one in sizes]
    yield _row("notebook, all of it (N)", notebooks, exponents.get("notebook"))
    yield _row("  processor", _of(notebooks, "processor_seconds"))
    yield _row("floor of a day", [one.get("floor") for one in sizes], exponents.get("floor"))
    for number, other in enumerate(sizes[0]["others"]):
        yield f"commit {other['commit']}"
        for phase, words in PHASES.items():
            cells = [one["others"][number].get(phase) for one in sizes]
            if any(cells):
                yield _row(f"  {words}", cells)
                yield _row("    processor", _of(cells, "processor_seconds"))
    for phase, words in PHASES.items():
        took = [one["system"].get(phase) for one in sizes]
        if any(took):
            yield ""
            yield _row(words, took, exponents.get(phase))
            yield from _phase_rows(took)
    yield ""
    yield from _limit_rows(results["limits"])


def _heading(results: Result) -> Iterator[str]:
    machine = results["machine"]
    yield f"microseg {results['commit']}, {results['date']}, load {machine['load']} at the start"
    yield (
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gb']} GB, {machine['system']}, "
        f"Python {machine['python']}"
    )


def _phase_rows(took: Sequence[Result | None]) -> Iterator[str]:
    yield _row("  processor", _of(took, "processor_seconds"))
    yield _row("  imports", _of(took, "import_seconds"))
    assets = dict.fromkeys(name for one in took if one for name in one["assets"])
    for name in assets:
        yield _row(f"  {name}", [_after_imports(one and one["assets"].get(name)) for one in took])
    yield _row("  outside of assets", _of(took, "outside_of_assets_seconds"))


def _of(cells: Sequence[Result | None], name: str) -> list[Result | None]:
    return [cell and {"seconds": cell[name]} for cell in cells]


def _after_imports(asset: Result | None) -> Result | None:
    return asset and {**asset, "seconds": asset["seconds"] - asset["import_seconds"]}


def _row(name: str, cells: Sequence[Result | None], exponent: float | None = None) -> str:
    growth_cell = f"{exponent:7.2f}" if exponent is not None else ""
    return f"{name:<{NAME_WIDTH}}{''.join(map(_cell, cells))}{growth_cell}".rstrip()


def _cell(figures: Result | None) -> str:
    if not figures:
        return f"{'–':>{CELL_WIDTH - 6}}{'':6}"
    memory = f"{figures['peak_mb'] / 1024:6.2f}" if "peak_mb" in figures else f"{'':6}"
    return f"{figures['seconds']:>{CELL_WIDTH - 6}.1f}{memory}"


def _limit_rows(limits: Sequence[Result]) -> Iterator[str]:
    for one in limits:
        verdict = "kept" if one["is_kept"] else "NOT KEPT"
        yield (
            f"{one['customers']:>9,}  {one['what']:<24} {figure(one['figure']):>6} of at most "
            f"{figure(one['limit']):>5} {one['unit']:<11} {verdict}"
        )


def figure(number: float) -> str:
    """A number with as many decimals as it deserves."""
    return f"{number:.2f}" if number < 10 else f"{number:.0f}"


# ── for the README ────────────────────────────────────────────────────────────────────────────────────────────────────


def markdown(results: Result) -> Iterator[str]:
    """The README's table: phases by size, in seconds and gigabytes, and as multiples of the notebook."""
    machine, sizes = results["machine"], results["results"]
    yield (
        f"{results['date']}, commit {results['commit']}, {machine['cores']} cores of {machine['processor']}, "
        f"{machine['memory_gb']:.0f} GB; N is the notebook's whole run on the same data in the same hour."
    )
    yield ""
    yield f"| | {' | '.join(f'{size:,} customers' for size in (one['customers'] for one in sizes))} | growth |"
    yield f"|---|{'--:|' * (len(sizes) + 1)}"
    exponents = results["growth"]

    def row(words: str, cells: Sequence[str], name: str) -> str:
        exponent = exponents.get(name)
        return f"| {words} | {' | '.join(cells)} | {'' if exponent is None else f'{exponent:.2f}'} |"

    yield row("the notebook (N)", [_markdown_cell(one.get("notebook")) for one in sizes], "notebook")
    yield row("floor of a day", [_markdown_cell(one.get("floor")) for one in sizes], "floor")
    for phase, words in PHASES.items():
        if any(one["system"].get(phase) for one in sizes):
            cells = [_markdown_cell(one["system"].get(phase), one.get("notebook"), phase) for one in sizes]
            yield row(f"**{words}**", cells, phase)
    cells = []
    for one in sizes:
        ours, theirs = day_like_for_like(one), (one.get("notebook") or {}).get("day_seconds")
        cells.append("–" if ours is None or theirs is None else f"{ours:.1f} s; notebook {theirs:.1f} s")
    yield row("a day's steps that both have", cells, "")


def _markdown_cell(figures: Result | None, notebook: Result | None = None, phase: str = "") -> str:
    if not figures:
        return "–"
    seconds = figures["seconds"] if phase != "next_day" else figures["seconds_after_imports"]
    cell = f"{seconds:.1f} s, {figures['peak_mb'] / 1024:.1f} GB"
    below = (notebook or {}).get("backfill_seconds" if phase == "backfill" else "seconds")
    return f"{cell} ({figure(seconds / below)} N)" if below else cell
