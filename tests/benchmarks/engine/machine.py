"""The machine and the versions that figures were taken with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("dagster", "duckdb", "lightgbm", "mlflow", "numpy", "pandas", "pyarrow", "scikit-learn", "sqlglot")


def describe() -> dict[str, Any]:
    """Processor, cores that may be used, memory, system, Python, and the load when it is called."""
    return {
        "processor": _entry("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int((_entry("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 2**20, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def versions() -> dict[str, str]:
    """The libraries that decide about speed."""
    return {name: version(name) for name in LIBRARIES}


def _entry(path: str, name: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
    entries = (entry.partition(":") for entry in text.splitlines())
    return next((value.strip() for key, _, value in entries if key.strip() == name), "")
