"""The README's table of how alike the customers of a micro-segment are on real data, in Markdown.

    .venv/bin/python -m tests.benchmarks.homogeneity

Belongs here: the shipped project's data as facts, the days, the words of the table. Does not belong here: what is
measured (see `ml.evidence.comparison`). Complete Journey comes with the extra `complete-journey`; where it is not there
that is said, and nothing is measured.

As of each day the models are those that the chain would have on it: value, lifecycle and layers fitted on the last
training week that ended before it. The means of the groups are learnt from the customers of the day a month earlier,
whose next 28 days have passed, and tell the next 28 days of the customers of the day itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta

from ml.evidence.comparison import fit_models, pooled_scores, predict_day, r2_differences, refit_layers
from ml.evidence.groupings import MEASURES, OURS, DayPredictions
from ml.features import CustomerHistory
from ml.restate import Models, Specs
from tests.benchmarks.value_tables import facts_of

DAYS = tuple(date(2017, month, 1) for month in range(7, 12))


def month_before(day: date) -> date:
    """The same day of the month before."""
    return day.replace(year=day.year - (day.month == 1), month=(day.month - 2) % 12 + 1)


def week_end_before(day: date) -> date:
    """The last Sunday before a day: the end of the training week whose choice is in force."""
    return day - timedelta(days=day.weekday() + 1)


def models_of(facts: CustomerHistory, specs: Specs, days: Sequence[date]) -> dict[date, Models]:
    """The models in force on each day."""
    return {day: fit_models(facts, week_end_before(day), specs) for day in days}


def judged_days(facts: CustomerHistory, models: Mapping[date, Models]) -> list[DayPredictions]:
    """Each day's groupings and what came; a day with too few customers is left out."""
    judged = []
    for day, in_force in models.items():
        until = day + timedelta(days=in_force.specs.segments.outcome_window_days)
        judgement = predict_day(facts, day, in_force, earlier_day=month_before(day), until=until)
        if judgement is not None:
            judged.append(judgement)
    return judged


def with_fewer(facts: CustomerHistory, models: Mapping[date, Models], count: int) -> dict[date, Models]:
    """The same models with only the first `count` layers."""
    reduced = {}
    for day, full in models.items():
        segments = replace(full.specs.segments, layers=full.specs.segments.layers[:count])
        reduced[day] = refit_layers(
            facts, week_end_before(day), replace(full, specs=replace(full.specs, segments=segments))
        )
    return reduced


def lines(specs: Specs, facts: CustomerHistory, days: Sequence[date] = DAYS) -> Iterator[str]:
    """The table of groupings with the gaps to micro-segments, then the table of the layers one by one."""
    models = models_of(facts, specs, days)
    judged = judged_days(facts, models)
    between = {(gap.other, gap.measure): gap for gap in r2_differences(judged)}
    yield f"Pooled over {', '.join(map(str, days))}; {sum(len(one.customers) for one in judged):,} customer days."
    yield ""
    yield "| | groups | R² spend | micro-segments more by | R² log(1 + spend) | micro-segments more by |"
    yield "|---|--:|--:|--:|--:|--:|"
    for score in pooled_scores(judged):
        name = f"**{score.grouping}**" if score.grouping == OURS else score.grouping
        cells = [name, f"{score.groups:,}"]
        for measure in MEASURES:
            gap = between.get((score.grouping, measure))
            more = "" if gap is None else f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
            cells += [f"{getattr(score, measure):.3f}", more]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "| layers | groups | R² spend | R² log(1 + spend) |"
    yield "|---|--:|--:|--:|"
    layers = specs.segments.layers
    for count in range(len(layers) + 1):
        fewer = judged_days(facts, with_fewer(facts, models, count))
        score = next(one for one in pooled_scores(fewer) if one.grouping == OURS)
        words = "/".join(["stage", *(layer.name for layer in layers[:count])])
        yield f"| {words} | {score.groups} | {score.r2_spend:.3f} | {score.r2_log_spend:.3f} |"


def main() -> None:
    """Print both tables for Complete Journey."""
    from microseg_assets.sources import SourceError

    try:
        project, facts = facts_of("complete_journey")
    except SourceError as error:
        sys.exit(f"complete_journey is left out: {error}")
    for line in lines(Specs(project.value, project.lifecycle, project.segments), facts):
        print(line, flush=True)


if __name__ == "__main__":
    main()
