"""The shop that the integration tests share, made once per session. A test that changes it works on a copy."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.integration.queries import recorded
from tests.integration.shop import FRIDAY, MONDAY, WEDNESDAY, Shop


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder shared by pytest's parallel workers."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shops"
    folder.mkdir(exist_ok=True)
    return folder


def _once(folder: Path, make: Callable[[], Shop]) -> Shop:
    """Make a shop, unless another worker has done or is doing so."""
    done = folder.with_suffix(".done")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make()
            done.touch()
    return Shop(folder)


@pytest.fixture(scope="session")
def friday(_shared: Path) -> Shop:
    """The shop on Friday: features from its first day on, one training week, and every table from Monday on."""

    def make() -> Shop:
        shop = Shop.new(_shared / "friday")
        with recorded(_shared / "friday.queries"):
            shop.run(MONDAY, FRIDAY)
        return shop

    return _once(_shared / "friday", make)


@pytest.fixture(scope="session")
def shop(_shared: Path, friday: Shop) -> Shop:
    """The shop on the Wednesday after: five more days made in one go, with the training week that ended on Sunday."""

    def make() -> Shop:
        shop = friday.copied_to(_shared / "shop")
        with recorded(_shared / "shop.queries"):
            shop.run(_after(FRIDAY), WEDNESDAY)
        return shop

    return _once(_shared / "shop", make)


def _after(day: date) -> date:
    return day + timedelta(days=1)
