"""What all tests share: an isolated state folder, a temporary PostgreSQL, and a report of what was skipped.

A test that needs a program says so with a marker (`postgres`, `java`, `chromium`) and is skipped where that program is
not found. The last lines of a run say how many were left out, and `MICROSEG_REQUIRE_ALL=1` makes that a failure.
"""

from __future__ import annotations

import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None)  # the machine may be slow: how long an example takes is no claim
settings.load_profile("patient")

# ---------------------------------------------------------------- programs that not every machine has


def _postgres_folder() -> Path | None:
    """Where `initdb` and `postgres` are; Debian keeps them out of the path."""
    folders = [Path(p).resolve().parent for p in [shutil.which("initdb")] if p]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


def _chromium() -> bool:
    browser = any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return browser and shutil.which("chromedriver") is not None


@dataclass(frozen=True)
class Program:
    is_here: Callable[[], bool]
    packages: str


PROGRAMS = {
    "postgres": Program(lambda: _postgres_folder() is not None, "postgresql"),
    "java": Program(lambda: shutil.which("java") is not None, "default-jre-headless"),
    "chromium": Program(_chromium, "chromium chromium-driver"),
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "MICROSEG_EVIDENCE_WHOLE" not in os.environ:  # what takes many minutes belongs to `make evidence`
        kept: list[pytest.Item] = []
        left: list[pytest.Item] = []
        for item in items:
            (left if item.get_closest_marker("only_in_evidence") else kept).append(item)
        config.hook.pytest_deselected(items=left)
        items[:] = kept
    absent = {name for name, program in PROGRAMS.items() if not program.is_here()}
    for item in items:
        for name in sorted(absent):
            if item.get_closest_marker(name):
                item.user_properties.append(
                    ("left out for", name)
                )  # travels with the report, also from xdist's workers
                item.add_marker(pytest.mark.skip(reason=f"needs {name}"))


NO_HISTORY = "this copy of the repository has no history"  # no program that could be installed


@dataclass(eq=False)
class LeftOut:
    """Counts skipped tests by missing program, reports them, and fails the run if they are required."""

    is_allowed: bool
    by_program: dict[str, int] = field(default_factory=dict)
    otherwise: set[str] = field(default_factory=set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        missing = [str(name) for key, name in report.user_properties if key == "left out for"]
        for name in missing:
            self.by_program[name] = self.by_program.get(name, 0) + 1
        if not missing and NO_HISTORY not in str(report.longrepr):
            self.otherwise.add(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.otherwise.add(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.OK and not self.is_allowed and (self.by_program or self.otherwise):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
        yield  # after all other output
        lines = [
            f"left out: {_tests(count)} that need{'s'[count > 1 :]} {name} (apt-get install {PROGRAMS[name].packages})"
            for name, count in sorted(self.by_program.items())
        ]
        if self.otherwise:
            lines.append(f"left out: {_tests(len(self.otherwise))} for the reasons given above")
        for line in lines:
            terminalreporter.write_line(line, yellow=self.is_allowed, red=not self.is_allowed)
        if lines and not self.is_allowed:
            terminalreporter.write_line("MICROSEG_REQUIRE_ALL is set: leaving tests out is a failure", red=True)


def _tests(count: int) -> str:
    return "1 test" if count == 1 else f"{count} tests"


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # under xdist only the controller sees every report
        is_allowed = os.environ.get("MICROSEG_REQUIRE_ALL", "") in ("", "0")
        config.pluginmanager.register(LeftOut(is_allowed), "left-out")


# ---------------------------------------------------------------- a state of its own

_STATE = (
    "MICROSEG_HOME",
    "MICROSEG_LAKE",
    "MICROSEG_PROJECT",
    "DAGSTER_HOME",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
)
_QUIET = {"DAGSTER_DISABLE_TELEMETRY": "yes", "MLFLOW_DISABLE_TELEMETRY": "true", "GX_ANALYTICS_ENABLED": "false"}


@pytest.fixture(scope="session", autouse=True)
def _no_telemetry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Telemetry is off, and session fixtures do not see the developer's own state."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _QUIET.items():
            patch.setenv(name, value)
        for name in _STATE:
            patch.delenv(name, raising=False)
        patch.setenv("MICROSEG_HOME", str(tmp_path_factory.getbasetemp() / "home-of-the-session"))
        yield


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory, _numbers: Iterator[int]) -> Iterator[None]:
    """Each test begins with a state folder that does not exist yet, whatever the test before it set.

    (`Home.prepare` and `mlflow.set_tracking_uri` write to the environment, so what they leave is taken back.)
    """
    before = {name: os.environ.get(name) for name in _STATE}
    for name in _STATE:
        os.environ.pop(name, None)
    os.environ["MICROSEG_HOME"] = str(tmp_path_factory.getbasetemp() / f"home-{next(_numbers)}")
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def _numbers() -> Iterator[int]:
    return itertools.count()


# ---------------------------------------------------------------- a throwaway PostgreSQL


@dataclass(frozen=True)
class PostgresServer:
    """A PostgreSQL of this session, on the loopback interface; `str()` of it is a DSN."""

    programs: Path
    port: int
    password: str
    user: str = "postgres"
    host: str = "127.0.0.1"

    def dsn(self, database: str = "postgres") -> str:
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def __str__(self) -> str:
        return self.dsn()


def free_port() -> int:
    """A free TCP port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether something of this machine answers on a TCP port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _unprivileged() -> pwd.struct_passwd | None:
    """The user to run PostgreSQL as if the tests run as root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    known = {user.pw_name: user for user in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL server; mark the test `postgres`."""
    programs = _postgres_folder()
    if programs is None:
        pytest.skip("needs postgres; mark the test with it")
    user = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="microseg-postgres-"))  # short: a socket's path may have 107 bytes
    server = PostgresServer(programs, free_port(), secrets.token_hex(16))
    password = folder / "password"
    password.write_text(server.password, encoding="utf-8")
    if user:
        for path in (folder, password):
            os.chown(path, user.pw_uid, user.pw_gid)
    identity: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()} if user else {}

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [programs / program, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, **identity
        )  # fmt: skip
        assert done.returncode == 0, f"{program} failed: {done.stdout[-500:]}{done.stderr[-2000:]}"

    data = str(folder / "data")
    process: subprocess.Popen[bytes] | None = None
    try:
        run("initdb", "-D", data, "-U", server.user, "--auth=scram-sha-256", f"--pwfile={password}", "-E", "UTF8",
            "--locale=C", "--no-sync")  # fmt: skip
        with (folder / "log").open("wb") as log:
            # Nothing here outlives the session, so nothing needs to reach the disk.
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, "-h", server.host, "-p", str(server.port), "-k", str(folder),
                 "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"],
                cwd=folder, stdout=log, stderr=log, **identity,
            )  # fmt: skip
        _wait_for(server, process, folder / "log")
        yield server
    finally:
        if process and process.poll() is None:
            process.send_signal(signal.SIGQUIT)  # at once, without a checkpoint: no data is kept
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg2

    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg2.connect(server.dsn(), connect_timeout=5).close()
            return
        except psycopg2.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start: {error}\n{log.read_text(errors='replace')}") from error
            time.sleep(0.05)
