"""`microseg simulate`: a simulated business as files, with a project file that runs as it is, and the truth."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from string import Template
from typing import Literal

from microseg_assets.project import SHIPPED, ProjectError

_TEMPLATES = SHIPPED.with_name("templates")


def simulate(
    preset: Literal["retail", "gaming"],
    *,
    customers: int = 2_000,
    days: int = 364,
    seed: int = 0,
    folder: Path,
    start: date = date(2024, 1, 1),
    format: Literal["parquet", "csv"] = "parquet",
    randomised: bool = True,
    workers: int = 2,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Path:
    """Write a business into a folder: a subfolder per table, `truth/`, and the project file.

    Parameters
    ----------
    randomised : whether campaigns treat customers at random; otherwise they prefer the more valuable ones
    workers : blocks of customers that are drawn at a time; the bytes do not depend on it
    on_progress : called with the number of finished blocks, and of all blocks

    Returns
    -------
    The project file, for `microseg run --project FILE`. The same arguments give the same bytes.

    Raises
    ------
    ProjectError
        If the settings are impossible, or the folder holds anything but an earlier simulation.
    """
    from ml.simulate import BusinessSpec, write_blocks

    value = _value_settings(days)
    try:
        spec = BusinessSpec(
            preset=preset,
            customers=customers,
            days=days,
            start=start.isoformat(),
            seed=seed,
            randomised=randomised,
            horizon_days=value["horizon"],
        )
        write_blocks(spec, folder, format=format, workers=workers, report=on_progress)
    except (ValueError, FileExistsError) as error:
        raise ProjectError(str(error)) from None
    name = f"simulated_{preset}"
    text = (_TEMPLATES / f"{name}.yaml").read_text(encoding="utf-8")
    file = folder / f"{name}.yaml"
    how = "" if randomised else "; the better customers were likelier to be treated"
    end = start + timedelta(days=days - 1)
    settings = {"name": name, "customers": f"{customers:,}", "days": days, "seed": seed, "start": start, "end": end}
    file.write_text(Template(text).substitute(settings, how=how, **value), encoding="utf-8")
    return file


def _value_settings(days: int) -> dict[str, int]:
    """The longest horizon whose training fits into the first three quarters of the days, if any does.

    Training needs the warm-up, the days between its snapshots, and the horizon of the last one.
    """
    settings = {}
    for horizon, warm_up, snapshots, step in ((90, 90, 4, 28), (56, 28, 3, 28), (28, 14, 2, 14)):
        settings = {"horizon": horizon, "warm_up": warm_up, "snapshots": snapshots, "step": step}
        if warm_up + (snapshots - 1) * step + horizon <= 0.75 * days:
            break
    return settings
