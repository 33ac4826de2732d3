"""Parts of the chain by themselves, in a process of their own: a training week, and days of the daily steps alone.

    python -P tests/benchmarks/engine/parts.py week PROJECT MONDAY
    python -P tests/benchmarks/engine/parts.py days PROJECT FIRST LAST

It plans and executes as `microseg run` does, but only what is asked for. It imports nothing of the benchmark, so that
any checkout's Python can run it. Belongs here: which runs. Does not belong here: measuring them (see `system`).

*days* are those of the comparison with the notebook: features, value applied, stages, assignment, micro-segments and
movements, under the models of one week. That week's choices are therefore entered for the weeks before it too, as a
business would have them that has chosen the incumbent week after week.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import date

from microseg_assets.build import load_workspace
from microseg_assets.families import FAMILIES
from microseg_assets.home import Home
from microseg_assets.planning.plan import PlannedRun, plan
from microseg_assets.runs import execute
from microseg_assets.workspace import Workspace
from ml import tables

FEATURES = ("customer_features",)
STEPS = ("customer_value", "lifecycle_stages", "layer_assignments", "micro_segments", "movements")


def week_of(monday: date) -> list[PlannedRun]:
    """The run of one training week: every family."""
    return [PlannedRun("weekly", monday, monday, 1, "week", "a training week")]


def days_of(workspace: Workspace, first: date, last: date) -> list[PlannedRun]:
    """The runs of the days' steps, without what was delivered on them and without training."""
    use_newest_choices(workspace, first, last)
    selected = {"to_features": FEATURES, "from_value": STEPS}
    runs = plan(workspace, first, last)
    return [replace(run, assets=selected[run.job]) for run in runs if run.job in selected]


def use_newest_choices(workspace: Workspace, first: date, last: date) -> None:
    """Let every week that serves a day from `first` to `last` have chosen what the newest one chose."""
    serving = workspace.calendar.weeks_serving(workspace.calendar.days(first, last))
    for family in FAMILIES:
        weeks = workspace.lake.keys(tables.MODEL_CHOICES, family=family)
        rows = workspace.lake.read(tables.MODEL_CHOICES, max(weeks), family=family)
        for week in serving:
            if week.isoformat() not in weeks:
                workspace.lake.write(tables.MODEL_CHOICES, week, rows, family=family)


def main() -> None:
    """Execute the runs of the part that is asked for."""
    from dagster import DagsterInstance

    what, project, *days = sys.argv[1:]
    home = Home.from_environment()
    home.prepare()
    workspace = load_workspace(project, home)
    first, last = (date.fromisoformat(days[0]), date.fromisoformat(days[-1]))
    runs = week_of(first) if what == "week" else days_of(workspace, first, last)
    with DagsterInstance.get() as instance:
        for run in runs:
            execute(run, str(workspace.project.path), home, instance)


if __name__ == "__main__":
    main()
