"""Looking up the file of a project by its name or path.

Belongs here: where project files are. Does not belong here: their content (see `settings`).
"""

from __future__ import annotations

import os
from pathlib import Path

from ml.rules import nearest

SHIPPED = Path(__file__).parents[1] / "projects"
SIMULATED = {"simulated_retail": "retail", "simulated_gaming": "gaming"}  # project to the preset that writes it


class RenamedSetting(FutureWarning):
    """A setting of the project file was renamed; the old name is still accepted."""


class ProjectError(ValueError):
    """A project file that cannot be used; the message names file, line, key and remedy."""


def shipped() -> list[str]:
    """Names of the project files that come with microseg."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def find(name: str) -> Path:
    """Look up a project's file: by path, or by the name of one in the state folder, a shipped one, or one that has run.

    Raises
    ------
    ProjectError
        If there is no such file.
    """
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        path = Path(name).expanduser()
        if not path.is_file():
            raise ProjectError(f"{path}: there is no such project file; give a path or one of {', '.join(_known())}")
        return path
    for folder in (_own(), SHIPPED):
        for path in (folder / f"{name}.yaml", folder / name / f"{name}.yaml"):  # data may lie beside the file
            if path.is_file():
                return path
    if (ran := _ran_before(name)) is not None:
        return ran
    if name in SIMULATED:
        raise ProjectError(f"{name} does not exist yet: create it with `microseg simulate {SIMULATED[name]}`")
    raise ProjectError(f"there is no project {name!r}; {nearest(name, _known())} (the path of a YAML file works too)")


def remember(name: str, path: Path, folder: Path) -> None:
    """Make a project that has run in a state folder known to `find` by its name, wherever its file is."""
    if path.is_relative_to(folder) or path.parent == SHIPPED:
        return
    (folder / "projects").mkdir(parents=True, exist_ok=True)
    (folder / "projects" / f"{name}.path").write_text(f"{path.absolute()}\n", encoding="utf-8")


def _own() -> Path:
    """The folder with the project files of the state folder, and pointers to those elsewhere."""
    return Path(os.environ.get("MICROSEG_HOME") or ".microseg") / "projects"


def _known() -> list[str]:
    """Names that `find` finds."""
    in_folders = {path.stem for path in _own().glob("*/*.yaml") if path.stem == path.parent.name}
    ran = {path.stem for path in _own().glob("*.path") if _ran_before(path.stem) is not None}
    return sorted({path.stem for path in _own().glob("*.yaml")} | in_folders | ran | set(shipped()))


def _ran_before(name: str) -> Path | None:
    """The file of a project that has run in this state folder, if it still exists."""
    pointer = _own() / f"{name}.path"
    path = Path(pointer.read_text(encoding="utf-8").strip()) if pointer.is_file() else None
    return path if path is not None and path.is_file() else None
