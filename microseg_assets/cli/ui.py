"""The UIs of Dagster and MLflow over the state folder, as two child processes on the loopback address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import click

from microseg_assets.home import Home
from microseg_assets.project import ProjectError, find, load

ADDRESS = "127.0.0.1"
MAX_START_SECONDS = 120  # until a server that does not answer is given up


def projects_with_state(home: Home) -> list[str]:
    """Names of the projects that have tables in the lake and a project file."""
    root = Path(home.lake_root)
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
    return [name for name in names if _is_known(name)]


def _is_known(name: str) -> bool:
    try:
        find(name)
    except ProjectError:
        return False
    return True


def serve(project: str, home: Home, *, port: int, mlflow_port: int) -> None:
    """Start both servers, print their addresses when they answer, and stop them together.

    Raises
    ------
    ProjectError
        If the project file cannot be used, or a port is taken.
    """
    for name in project.split(","):
        load(name.strip())
    for number, option in ((port, "--port"), (mlflow_port, "--mlflow-port")):
        if _is_taken(number):
            raise ProjectError(f"port {number} is in use: stop what uses it, or choose another with {option}")
    home.prepare()
    environment = {
        **os.environ,
        "MICROSEG_PROJECT": project,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes that nothing needs
        "MICROSEG_MLFLOW_UI": f"http://{ADDRESS}:{mlflow_port}",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    commands = {
        "Dagster": [
            sys.executable, "-m", "dagster", "dev", "-m", "microseg_assets.definitions", "-h", ADDRESS, "-p", str(port),
            "--log-level", "warning",
        ],
        "MLflow": [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", home.mlflow_uri,
            "--artifacts-destination", (home.folder / "mlartifacts").as_uri(), "--host", ADDRESS,
            "--port", str(mlflow_port), "--workers", "1",
        ],
    }  # fmt: skip
    log = home.folder / "ui.log"
    for stop_signal in (signal.SIGTERM, signal.SIGHUP):  # from the start: no child must outlive this process
        signal.signal(stop_signal, lambda *_: sys.exit(0))
    click.echo(f"Starting Dagster and MLflow over {home.folder} (their output: {log}) …")
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        with log.open("ab") as out:
            for name, command in commands.items():
                children[name] = subprocess.Popen(
                    command, env=environment, stdout=out, stderr=out, start_new_session=True
                )
        _wait(children["Dagster"], f"http://{ADDRESS}:{port}/server_info", log)
        click.echo(f"  Dagster  http://{ADDRESS}:{port}")
        _wait(children["MLflow"], f"http://{ADDRESS}:{mlflow_port}/health", log)
        click.echo(f"  MLflow   http://{ADDRESS}:{mlflow_port}")
        click.echo("Ctrl-C stops both.")
        while all(child.poll() is None for child in children.values()):
            time.sleep(0.5)
        raise ProjectError(f"a server stopped by itself; {log} says why")
    except KeyboardInterrupt:
        click.echo("\nStopping …")
    finally:
        for child in children.values():
            _signal(child, signal.SIGTERM)
        for child in children.values():
            _end(child)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return True
    return False


def _wait(child: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(MAX_START_SECONDS * 2):
        if child.poll() is not None:
            raise ProjectError(f"a server did not start; {log} says why")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise ProjectError(f"{url} does not answer after {MAX_START_SECONDS} s; {log} says why")


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal a server and everything it started, even if the server itself is gone already."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Wait until a server has ended; kill what is left of its process group."""
    with suppress(subprocess.TimeoutExpired):
        child.wait(15)
    _signal(child, signal.SIGKILL)
    child.wait()
