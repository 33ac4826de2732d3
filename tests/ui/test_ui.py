"""What a person sees after `microseg ui`: both addresses, the chain, a day's metadata, the model runs, and the atlas.

Everything is real: a small shop is materialized by `microseg run`, `microseg ui` is a process of its own, and Chromium
looks at the pages.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from microseg_assets.families import FAMILIES
from microseg_assets.orchestration.chain import OWNERS
from ml.simulate import ShopSpec, simulate, write

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.chromium

REPOSITORY = Path(__file__).parents[2]
DAYS = 66
NEWEST = date(2024, 3, 6)
WEEK = date(2024, 2, 26)
T = TypeVar("T")
SHOWN = "[...document.querySelectorAll('.seg tbody')].filter(body => body.offsetParent)"

PROJECT = """\
name: shop
start: 2024-01-01
end: 2024-03-20
tables:
  transactions: {path: shop/transactions.csv}
  exposures: {path: shop/exposures.csv}
value: {horizon_days: 28, warm_up_days: 14, snapshots: 1, min_customers: 50}
segments: {min_cluster_customers: 15, warm_up_days: 14}
"""


def eventually(what: str, look: Callable[[], T | None], *, seconds: float = 30) -> T:
    """The first answer that is one; pages are drawn when their data have come."""
    deadline = time.monotonic() + seconds
    while True:
        result = look()
        if result:
            return result
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", "MICROSEG_HOME": str(home)}


def processes_of(home: Path) -> dict[int, str]:
    """Living processes that were started over a state folder, whoever their parent is by now."""
    mark, processes = f"MICROSEG_HOME={home}".encode(), {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                processes[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:150]
        except OSError:
            continue  # gone, or somebody else's
    return processes


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with three days of a small simulated shop."""
    folder = tmp_path_factory.mktemp("ui") / "home"
    write(simulate(ShopSpec(customers=200, days=DAYS)), folder / "projects" / "shop")
    (folder / "projects" / "shop.yaml").write_text(PROJECT)
    done = subprocess.run(
        [sys.executable, "-m", "microseg_assets.cli", "run", "-p", "shop", "--from", "2024-03-04", "--to", str(NEWEST)],
        env=environment(folder), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@dataclass
class Servers:
    """`microseg ui` at work."""

    process: subprocess.Popen[str]
    said: Path
    dagster: str
    mlflow: str


def start(home: Path, said: Path) -> Servers:
    ports = free_port(), free_port()
    command = [sys.executable, "-m", "microseg_assets.cli", "ui", "-p", "shop"]
    with said.open("w") as out:
        process = subprocess.Popen(
            [*command, "--port", str(ports[0]), "--mlflow-port", str(ports[1])],
            env=environment(home), stdout=out, stderr=out, text=True,
        )  # fmt: skip
    return Servers(process, said, *(f"http://127.0.0.1:{port}" for port in ports))


def stop(servers: Servers, how: signal.Signals) -> None:
    servers.process.send_signal(how)
    try:
        servers.process.wait(40)
    finally:
        if servers.process.poll() is None:
            servers.process.kill()


@pytest.fixture(scope="module")
def servers(home: Path) -> Iterator[Servers]:
    made = start(home, home.parent / "said")
    try:
        eventually(
            "both servers", lambda: made.process.poll() is not None or "Ctrl-C" in made.said.read_text(), seconds=150
        )
        assert made.process.poll() is None, made.said.read_text() + (home / "ui.log").read_text()[-3000:]
        yield made
    finally:
        if made.process.poll() is None:
            stop(made, signal.SIGTERM)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    from selenium import webdriver

    profile = tempfile.mkdtemp(prefix="microseg-chromium-")
    options = webdriver.ChromeOptions()
    names = ("chromium", "chromium-browser", "google-chrome")
    options.binary_location = next(path for path in map(shutil.which, names) if path)
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run", "--window-size=1600,1200",
        f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_page_load_timeout(60)
    try:
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture
def see(browser: Chrome, tmp_path: Path) -> Callable[..., str]:
    """Open a page, wait until it shows all of some words, keep a picture of it, and return its text."""

    def look(url: str, *words: str) -> str:
        browser.get(url)

        def shown() -> str | None:
            text: str = browser.execute_script("return document.body ? document.body.innerText : ''")
            return text if all(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) for word in words) else None

        try:
            return eventually(f"{url} shows {', '.join(words)}", shown)
        finally:
            browser.save_screenshot(str(tmp_path / "page.png"))

    return look


# ── the two servers ───────────────────────────────────────────────────────────────────────────────────────────────


def test_both_addresses_are_printed_and_answer(servers: Servers) -> None:
    said = servers.said.read_text()
    assert f"Dagster  {servers.dagster}" in said and f"MLflow   {servers.mlflow}" in said
    for address in (servers.dagster, servers.mlflow):
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.status == 200 and b"<html" in answer.read().lower()


def test_nobody_but_this_machine_can_reach_them(servers: Servers) -> None:
    ports = {int(address.rpartition(":")[2]) for address in (servers.dagster, servers.mlflow)}
    listening = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        name, state = line.split()[1], line.split()[3]
        host, _, port = name.partition(":")
        if state == "0A" and int(port, 16) in ports:
            listening[int(port, 16)] = host
    assert listening == dict.fromkeys(ports, "0100007F")


def test_the_asset_graph_shows_every_group_of_the_chain(servers: Servers, see: Callable[..., str]) -> None:
    see(f"{servers.dagster}/asset-groups", "Global asset lineage", *OWNERS)


def test_the_lineage_of_an_asset_shows_what_it_reads_and_its_readers(servers: Servers, see: Callable[..., str]) -> None:
    neighbours = ("layer_assignments", "lifecycle_stages", "movements", "action_plan")
    see(f"{servers.dagster}/assets/shop/micro_segments?view=lineage", "micro_segments", *neighbours)


def test_a_materialized_day_shows_its_metadata(servers: Servers, see: Callable[..., str]) -> None:
    text = see(f"{servers.dagster}/assets/shop/customer_value?view=partitions&partition={NEWEST}",
               "Materialized (3)", "Metadata", "dagster/partition_row_count", "model", "reason")  # fmt: skip
    rows = re.search(r"dagster/partition_row_count\s+(\d+)", text)
    assert rows and int(rows[1]) > 50


def test_mlflow_lists_an_experiment_for_every_family(servers: Servers, see: Callable[..., str]) -> None:
    see(f"{servers.mlflow}/#/experiments", *(f"shop/{family}" for family in FAMILIES))


def test_mlflow_lists_the_weeks_run_of_a_family(servers: Servers, home: Path, see: Callable[..., str]) -> None:
    import sqlite3

    with sqlite3.connect(home / "mlflow.db") as database:
        (experiment,) = database.execute("SELECT experiment_id FROM experiments WHERE name = 'shop/value'").fetchone()
    see(f"{servers.mlflow}/#/experiments/{experiment}/runs", str(WEEK), "monitoring")


# ── the page for the marketer ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def atlas(home: Path, browser: Chrome, tmp_path: Path) -> Chrome:
    (page,) = (home / "lake" / "shop" / "segment_atlas" / f"day={NEWEST}").glob("*.html")
    browser.get_log("browser")  # what was said of other pages
    browser.get(page.as_uri())
    browser.save_screenshot(str(tmp_path / "atlas.png"))
    return browser


def names(atlas: Chrome) -> list[str]:
    """Names of the micro-segments that are shown, in their order."""
    shown: list[str] = atlas.execute_script(f"return {SHOWN}.map(b => b.rows[0].cells[0].textContent.trim())")
    return shown


def test_the_atlas_opens_without_an_error_and_makes_no_requests(atlas: Chrome) -> None:
    assert [entry for entry in atlas.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    fetched = atlas.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in fetched if not name.startswith("data:")] == [], "one self-contained page"
    assert len(names(atlas)) > 3


def test_the_filter_keeps_rows_with_the_word_and_clearing_it_restores_all(atlas: Chrome) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    before = names(atlas)
    word = before[0].split()[0].strip(":,").lower()
    box = atlas.find_element(By.ID, "filter")
    box.send_keys(word)
    texts = atlas.execute_script(f"return {SHOWN}.map(b => b.textContent.toLowerCase())")
    assert texts and all(word in text for text in texts)
    assert atlas.find_element(By.ID, "found").text == f"{len(texts)} shown"
    box.send_keys("nobody has this")
    assert names(atlas) == [] and atlas.find_element(By.ID, "found").text == "0 shown"
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(Keys.DELETE)
    assert names(atlas) == before


def test_a_click_on_a_heading_sorts_and_another_reverses_the_order(atlas: Chrome) -> None:
    from selenium.webdriver.common.by import By

    table = max(
        atlas.find_elements(By.CSS_SELECTOR, "table.seg"), key=lambda t: len(t.find_elements(By.TAG_NAME, "tbody"))
    )

    def customers() -> list[float]:
        shown = atlas.execute_script(
            "return [...arguments[0].querySelectorAll('tbody')].map(b => b.rows[0].cells[1].textContent)", table
        )
        return [float(text.replace(",", "")) for text in shown]

    by_id = customers()
    assert len(set(by_id)) > 1
    heading = next(h for h in table.find_elements(By.CSS_SELECTOR, "thead button") if h.text.startswith("Customers"))
    atlas.execute_script("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", heading)
    heading.click()
    assert customers() == sorted(by_id, reverse=True)
    heading.click()
    assert customers() == sorted(by_id)
    assert atlas.get_log("browser") == []


# ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ctrl_c_stops_both_and_leaves_no_process(servers: Servers, home: Path) -> None:
    assert len(processes_of(home)) >= 3
    stop(servers, signal.SIGINT)
    assert servers.process.returncode == 0
    assert "Traceback" not in servers.said.read_text()
    eventually("no process is left", lambda: not processes_of(home), seconds=5)
    for address in (servers.dagster, servers.mlflow):
        with pytest.raises(OSError):
            urllib.request.urlopen(address, timeout=5)


def test_a_terminal_that_is_closed_while_they_start_leaves_no_process(home: Path, tmp_path: Path) -> None:
    made = start(home, tmp_path / "said")
    eventually("the servers are started", lambda: len(processes_of(home)) >= 3, seconds=60)
    stop(made, signal.SIGHUP)
    eventually("no process is left", lambda: not processes_of(home), seconds=5)
