"""The only wiring: a project file becomes Dagster definitions. Tests replace parts through `overrides`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dagster as dg

from microseg_assets import project
from microseg_assets.assets import chain_of
from microseg_assets.home import Home
from microseg_assets.orchestration import automation
from microseg_assets.orchestration.chain import add_assets, define
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
    """A project with its lake, engine and tracking, and the declarations of its assets."""
    home = home or Home.from_environment()
    workspace = Workspace(
        settings,
        lake=(overrides.lake or home.lake)(settings.name),
        engine=overrides.engine or DuckDB(**home.engine_limits()),
        tracking=(overrides.tracking or home.tracking)(settings.name),
    )
    return workspace, add_assets(workspace, chain_of(settings))


def load_workspace(reference: str, home: Home) -> Workspace:
    """The workspace of a project file, for reading its lake outside of a run."""
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
    projects : project files by name or path, or loaded projects
    home : the state folder; by default, `$MICROSEG_HOME`
    overrides : parts to replace
    """
    parts = []
    for reference in projects:
        settings = project.load(reference) if isinstance(reference, str) else reference
        workspace, declarations = make_workspace(settings, home=home, overrides=overrides)
        assets = [define(workspace, declaration) for declaration in declarations]
        jobs = automation.jobs(workspace)
        schedules = automation.schedules(workspace, jobs)
        parts.append(dg.Definitions(assets=assets, jobs=jobs, schedules=schedules, sensors=sensors(workspace, jobs)))
    # One process for a whole run: with a process per step, most of the time would go to imports.
    return dg.Definitions.merge(*parts, dg.Definitions(executor=dg.in_process_executor))
