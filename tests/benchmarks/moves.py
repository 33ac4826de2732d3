"""The README's tables of moves on real data: border flicker, and what refit weeks move, in Markdown.

    .venv/bin/python -m tests.benchmarks.moves            # both tables, about five minutes
    .venv/bin/python -m tests.benchmarks.moves flicker    # one of them: flicker, refits

Belongs here: the days, what counts as a move, the words of the tables. Does not belong here: how customers are placed
(see `ml.layers.assignment`) and what a week decides (see `ml.layers.training`).

*Flicker*: models frozen on a Sunday place everybody on each of the next 63 days. A move is a string that differs from
the one a step before (a day, or a week); it is undone if the string from before comes back within 28 days. Beside it
the price: R² of the next 28 days' spend on the days of `tests.benchmarks.homogeneity`, with and without damping.

*Refit weeks*: who carries another string than a Sunday before, under models frozen in the first week, under the choices
that the weekly trainings make one after another, and under models that are fitted from nothing every week.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from ml import layers, lifecycle, value
from ml.evidence.comparison import fit_models, pooled_scores, predict_day
from ml.evidence.groupings import OURS
from ml.features import CustomerHistory
from ml.restate import Models, Specs, restate
from tests.benchmarks.homogeneity import DAYS, models_of, month_before
from tests.benchmarks.value_tables import facts_of

FITS = (date(2017, 6, 25), date(2017, 8, 13), date(2017, 10, 1))
FOLLOWED, WITHIN = 63, 28
FIRST_WEEK, WEEKS = date(2017, 8, 27), 8


def strings(facts: CustomerHistory, models: Models, days: Sequence[date], *, is_damped: bool = True) -> np.ndarray:
    """Primary strings, shape (customers, days), of those who were known on the first of the days."""
    pairs = facts.known(days)
    history = facts.snapshot if is_damped else None
    rows = restate(facts.engine, facts.snapshot(pairs), models, history)
    frame = rows.select(["customer_id", "day", "micro_segment"]).to_pandas()
    wide = frame.pivot(index="customer_id", columns="day", values="micro_segment")
    result: np.ndarray = wide.dropna().to_numpy(dtype=str)
    return result


def flicker(seen: np.ndarray, step: int) -> np.ndarray:
    """Moves, moves that are undone, and customers who could have moved, over all days of a step."""
    counts = np.zeros(3)
    for day in range(step, seen.shape[1] - WITHIN, step):
        before = seen[:, day - step]
        moved = seen[:, day] != before
        back = (seen[:, day + step : day + WITHIN + 1 : step] == before[:, None]).any(axis=1)
        counts += moved.sum(), (moved & back).sum(), len(seen)
    return counts


def flicker_lines(facts: CustomerHistory, specs: Specs) -> Iterator[str]:
    """The table of flicker, undamped and damped."""
    counts = {(damped, step): np.zeros(3) for damped in (False, True) for step in (1, 7)}
    for fit in FITS:
        models = fit_models(facts, fit, specs)
        days = [fit + timedelta(number) for number in range(1, FOLLOWED + 1)]
        for damped in (False, True):
            seen = strings(facts, models, days, is_damped=damped)
            for step in (1, 7):
                counts[damped, step] += flicker(seen, step)
    in_force = models_of(facts, specs, DAYS)
    explained = {}
    for damped in (False, True):
        judged = [
            predict_day(facts, day, models, earlier_day=month_before(day), until=day + timedelta(28), is_damped=damped)
            for day, models in in_force.items()
        ]
        explained[damped] = next(one for one in pooled_scores([one for one in judged if one]) if one.grouping == OURS)
    yield f"Models frozen on {', '.join(map(str, FITS))}, {FOLLOWED} days each; R² on {len(DAYS)} firsts of a month."
    yield ""
    yield "| | undamped | damped | ratio |"
    yield "|---|--:|--:|--:|"
    for step, words in ((1, "from day to day"), (7, "from Sunday to Sunday")):
        plain, steady = counts[False, step], counts[True, step]
        weeks = 7 / step  # rates are per customer and week
        for name, top, bottom, scale in (
            (f"customers who move in a week, {words}", 0, 2, weeks),
            ("… and are back within 28 days", 1, 2, weeks),
            ("share of moves that are undone", 1, 0, 1.0),
        ):
            one, other = plain[top] / plain[bottom] * scale, steady[top] / steady[bottom] * scale
            yield f"| {name} | {one:.3f} | {other:.3f} | {other / one:.2f} |"
    for measure, words in (("r2_spend", "R² of spend"), ("r2_log_spend", "R² of log(1 + spend)")):
        one, other = getattr(explained[False], measure), getattr(explained[True], measure)
        yield f"| {words} | {one:.4f} | {other:.4f} | {other - one:+.4f} |"


def trained(
    facts: CustomerHistory, week_end: date, before: Models | None, specs: Specs
) -> tuple[Models, dict[str, str]]:
    """The models in force after a week's trainings, as the chain trains them, and what each family decided."""
    known = facts.until(week_end)
    models, decisions = before or Models(None, None, None, specs), {}

    def chosen(family: str, fit_result: Any) -> None:
        nonlocal models
        decisions[family] = fit_result.decision
        if fit_result.decision == "challenger":
            models = replace(models, **{family: fit_result.model})

    chosen("value", value.train(known, week_end, specs.value, models.value))
    chosen("lifecycle", lifecycle.train(
        known, week_end, specs.lifecycle, models.lifecycle, value_model=models.value, value_spec=specs.value
    ))  # fmt: skip
    chosen("layers", layers.train(known, week_end, specs.segments, models.layers, models=models))
    return models, decisions


def refit_lines(facts: CustomerHistory, specs: Specs) -> Iterator[str]:
    """The table of refit weeks."""
    weeks = [FIRST_WEEK + timedelta(7 * number) for number in range(WEEKS + 1)]
    frozen, _ = trained(facts, weeks[0], None, specs)
    before = {"frozen": frozen, "choices": frozen, "fresh": frozen}
    yield f"Complete Journey, first fit on {weeks[0]}; share of households with another string than a Sunday before."
    yield ""
    yield "| week's end | value, lifecycle, layers | clusters | frozen | choices made | fitted from nothing |"
    yield "|---|---|---|--:|--:|--:|"
    total = dict.fromkeys(before, 0.0)
    for earlier, later in pairwise(weeks):
        choices, decisions = trained(facts, later, before["choices"], specs)
        after = {"frozen": frozen, "choices": choices, "fresh": fit_models(facts, later, specs)}
        shares = {}
        for name, models in after.items():
            one, other = (_on(facts, which, day) for which, day in ((before[name], earlier), (models, later)))
            there = sorted(one.keys() & other.keys())
            shares[name] = float(np.mean([one[who] != other[who] for who in there]))
            total[name] += shares[name]
        fates = Counter(event.event for model in _layers(choices) for event in model.events)
        fate_counts = ", ".join(f"{count} {fate}" for fate, count in fates.most_common())
        yield (
            f"| {later} | {', '.join(decisions.values())} | {fate_counts} | {shares['frozen']:.1%} "
            f"| {shares['choices']:.1%} | {shares['fresh']:.1%} |"
        )
        before = after
    mean = {name: share / WEEKS for name, share in total.items()}
    yield f"| mean | | | {mean['frozen']:.1%} | {mean['choices']:.1%} | {mean['fresh']:.1%} |"


def _on(facts: CustomerHistory, models: Models, day: date) -> dict[str, str]:
    rows = restate(facts.engine, facts.snapshot_of(day), models, facts.snapshot)
    return dict(zip(rows["customer_id"].to_pylist(), rows["micro_segment"].to_pylist(), strict=True))


def _layers(models: Models) -> Sequence[layers.LayerModel]:
    return models.layers.models if models.layers is not None else ()


TABLES = {"flicker": flicker_lines, "refits": refit_lines}


def main() -> None:
    """Print the tables that are asked for."""
    from microseg_assets.sources import SourceError

    try:
        project, facts = facts_of("complete_journey")
    except SourceError as error:
        sys.exit(f"complete_journey is left out: {error}")
    specs = Specs(project.value, project.lifecycle, project.segments)
    for name in sys.argv[1:] or list(TABLES):
        for line in TABLES[name](facts, specs):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
