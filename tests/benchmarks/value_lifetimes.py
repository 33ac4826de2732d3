"""BG/NBD and Gamma-Gamma beside the package lifetimes, on the sample and on all of CDNOW: optimum, parameters, time.

lifetimes wants older libraries, so it lives in an environment of its own; this file runs in both:

    python3.11 -m venv /tmp/lifetimes
    /tmp/lifetimes/bin/pip install lifetimes==0.11.3 "numpy<2" "pandas<2.2" "scipy<1.12"
    .venv/bin/python -m tests.benchmarks.value_lifetimes /tmp/lifetimes/bin/python

Belongs here: the comparison. Does not belong here: the published numbers (see `tests/ml/test_value_closed_form.py`).
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
import time
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

SETS = {"sample": ("CDNOW_sample.txt", 0, 1), "all": ("CDNOW_master.txt", 1, 0)}  # file, header lines, first column
END = date(1997, 9, 30)


def summary(which: str) -> tuple[Any, Any, Any, Any]:
    """Repeats, weeks to the last and to the end of September 1997, mean dollars of a repeat day, per customer."""
    spec = importlib.util.find_spec("lifetimes")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("lifetimes is not installed here")
    name, header, start = SETS[which]
    text = (Path(next(iter(spec.submodule_search_locations))) / "datasets" / name).read_text(encoding="utf-8")
    spent: dict[str, dict[date, float]] = defaultdict(lambda: defaultdict(float))
    for line in text.splitlines()[header:]:
        if cells := line.split()[start:]:
            day = date(int(cells[1][:4]), int(cells[1][4:6]), int(cells[1][6:]))
            if day <= END:
                spent[cells[0]][day] += float(cells[3])
    rows = []
    for by_day in spent.values():
        first, last = min(by_day), max(by_day)
        repeats = [amount for day, amount in by_day.items() if day > first]
        mean = sum(repeats) / len(repeats) if repeats else 0.0
        rows.append((len(by_day) - 1, (last - first).days / 7, (END - first).days / 7, mean))
    x, t_x, age, money = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    return x, t_x, age, money


def peer() -> None:
    """Run by lifetimes' interpreter: fit, and print what it found as JSON."""
    lifetimes = importlib.import_module("lifetimes")
    estimates = {}
    for which in SETS:
        x, t_x, age, money = summary(which)
        begun = time.perf_counter()
        timing = lifetimes.BetaGeoFitter().fit(x, t_x, age)
        seconds = time.perf_counter() - begun
        kept = (x > 0) & (money > 0)
        value = lifetimes.GammaGammaFitter().fit(x[kept], money[kept])
        estimates[which] = {
            "seconds": seconds,
            "bgnbd": [float(timing.params_[name]) for name in ("r", "alpha", "a", "b")],
            "gamma_gamma": [float(value.params_[name]) for name in ("p", "q", "v")],
            "columns": [column.tolist() for column in (x, t_x, age, money)],
        }
    print(json.dumps(estimates))


def compare(interpreter: str) -> None:
    """Set both side by side; each optimum is valued by the same likelihood, ours."""
    from ml.value.bgnbd import BetaGeoModel, log_likelihood
    from ml.value.gamma_gamma import GammaGammaModel

    said = subprocess.run([interpreter, __file__, "--peer"], capture_output=True, text=True, check=True)
    BetaGeoModel().fit([1], [1], [2])  # so that no import is timed
    beaten = False
    for which, theirs in json.loads(said.stdout.splitlines()[-1]).items():
        x, t_x, age, money = (np.array(column) for column in theirs["columns"])
        begun = time.perf_counter()
        model = BetaGeoModel().fit(x, t_x, age)
        seconds = time.perf_counter() - begun
        value = log_likelihood(np.array(theirs["bgnbd"]), x, t_x, age, np.ones(len(x)))[0]
        beaten |= value > model.log_likelihood_ + 1e-6
        print(f"{which}: {len(x):,} customers")
        print(f"  lifetimes  {seconds_of(theirs['seconds'])}  log-likelihood {value:.6f}  {rounded(theirs['bgnbd'])}")
        mine = [model.r_, model.alpha_, model.a_, model.b_]
        print(f"  microseg   {seconds_of(seconds)}  log-likelihood {model.log_likelihood_:.6f}  {rounded(mine)}")
        money_model = GammaGammaModel().fit(x, money)
        estimates = [money_model.p_, money_model.q_, money_model.gamma_]
        print(f"  Gamma-Gamma: lifetimes {rounded(theirs['gamma_gamma'])}, microseg {rounded(estimates)}")
    sys.exit("lifetimes found a better optimum" if beaten else 0)


def seconds_of(seconds: float) -> str:
    return f"{seconds:6.3f} s"


def rounded(values: list[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


if __name__ == "__main__":
    if sys.argv[1:] == ["--peer"]:
        peer()
    elif len(sys.argv) == 2:
        compare(sys.argv[1])
    else:
        sys.exit(__doc__)
