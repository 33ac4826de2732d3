"""The project file: one YAML, typed and validated, that drives the whole chain.

Belongs here: the settings, reading them, and error messages with file, line and remedy. Does not belong here: what a
setting does.

Looking up a file and naming an error must be quick, for every command does it; the settings import the whole chain. So
`Project` and `load` are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from microseg_assets.project.lookup import SHIPPED, ProjectError, RenamedSetting, find, remember, shipped

if TYPE_CHECKING:
    from microseg_assets.project.loading import load
    from microseg_assets.project.settings import Project

__all__ = ["SHIPPED", "Project", "ProjectError", "RenamedSetting", "find", "load", "remember", "shipped"]

_LAZY = {"Project": "microseg_assets.project.settings", "load": "microseg_assets.project.loading"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
