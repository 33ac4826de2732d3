"""The only wiring: a project file becomes Dagster definitions. A test swaps any part through `overrides`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dagster as dg

from microseg_assets import project
from microseg_assets.assets import CHAIN
from microseg_assets.home import Home
from microseg_assets.orchestration import automation
from microseg_assets.orchestration.chain import declare, definition
from microseg_assets.orchestration.declaration import Declaration
from microseg_assets.orchestration.sensors import sensors
from microseg_assets.project import Project
from microseg_assets.storage.lake import Lake
from microseg_assets.tracking import Tracking
from microseg_assets.workspace import Workspace
from ml.engine import DuckDB, Engine

DEFAULT_PROJECT = "complete_journey"


@dataclass(frozen=True)
class Overrides:
    """Parts to use instead of those of the state folder."""

    lake: Callable[[str], Lake] | None = None
    tracking: Callable[[str], Tracking] | None = None
    engine: Engine | None = None


def make_workspace(
    settings: Project, *, home: Home | None = None, overrides: Overrides = Overrides()
) -> tuple[Workspace, list[Declaration]]:
    """A project with its lake, engine and tracking, and the assets that are declared in it."""
    home = home or Home.from_environment()
    workspace = Workspace(
        settings,
        lake=(overrides.lake or home.lake)(settings.name),
        engine=overrides.engine or DuckDB(),
        tracking=(overrides.tracking or home.tracking)(settings.name),
    )
    return workspace, declare(workspace, CHAIN)


def load_workspace(reference: str, home: Home) -> Workspace:
    """The workspace of a project file, for questions about what is there."""
    return make_workspace(project.load(reference), home=home)[0]


def build_defs(
    *,
    projects: Sequence[str | Project] = (DEFAULT_PROJECT,),
    home: Home | None = None,
    overrides: Overrides = Overrides(),
) -> dg.Definitions:
    """Definitions of one or several projects, side by side.

    Parameters
    ----------
    projects : project files by name or path, or projects already loaded
    home : the state folder; `$MICROSEG_HOME` by default
    overrides : parts to swap
    """
    parts = []
    for given in projects:
        settings = project.load(given) if isinstance(given, str) else given
        workspace, declared = make_workspace(settings, home=home, overrides=overrides)
        made = [definition(workspace, one) for one in declared]
        jobs = automation.jobs(workspace)
        schedules = automation.schedules(workspace, jobs)
        parts.append(dg.Definitions(assets=made, jobs=jobs, schedules=schedules, sensors=sensors(workspace, jobs)))
    # One process for a whole run: a process per step would spend most of its time on imports.
    return dg.Definitions.merge(*parts, dg.Definitions(executor=dg.in_process_executor))
