"""The code location: what Dagster loads. `MICROSEG_PROJECT` names the project, or several with commas between them."""

from __future__ import annotations

import os

import dagster as dg

from microseg_assets.build import DEFAULT_PROJECT, build_defs


@dg.definitions
def defs() -> dg.Definitions:
    named = os.environ.get("MICROSEG_PROJECT") or DEFAULT_PROJECT
    return build_defs(projects=[name.strip() for name in named.split(",") if name.strip()])
