"""The code location that Dagster loads. `MICROSEG_PROJECT` names one project, or several separated by commas."""

from __future__ import annotations

import os

import dagster as dg

from microseg_assets.build import DEFAULT_PROJECT, build_defs


@dg.definitions
def defs() -> dg.Definitions:
    references = os.environ.get("MICROSEG_PROJECT") or DEFAULT_PROJECT
    return build_defs(projects=[name.strip() for name in references.split(",") if name.strip()])
