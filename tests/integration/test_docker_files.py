"""docker/: what the files promise, read from them; and their Dagster and MLflow settings against a real PostgreSQL.

There is no container engine where these tests run, so the services' own commands are started as plain processes.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
import yaml

if TYPE_CHECKING:
    from tests.conftest import PostgresServer

DOCKER = Path(__file__).parents[2] / "docker"
BIN = Path(sys.executable).parent
OURS = ("mlflow", "code", "webserver", "daemon")
SERVICES = ("postgres", *OURS)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


# ---------------------------------------------------------------- what is written


def test_the_services_are_database_tracking_code_webserver_and_daemon(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check(compose: dict[str, Any], name: str) -> None:
    check = compose["services"][name]["healthcheck"]
    assert check["test"][0] == "CMD" and {"interval", "timeout", "retries", "start_period"} <= set(check)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_without_root_and_privileges(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["user"].split(":")[0] not in ("", "0", "root")
    assert service["cap_drop"] == ["ALL"] and service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service)
    assert not any("docker.sock" in str(volume) for volume in service["volumes"])


def test_each_service_waits_until_the_services_it_needs_are_healthy(compose: dict[str, Any]) -> None:
    needs = {name: service.get("depends_on", {}) for name, service in compose["services"].items()}
    assert all(v == {"condition": "service_healthy"} for need in needs.values() for v in need.values())
    assert {name: set(need) for name, need in needs.items()} == {
        "postgres": set(),
        "mlflow": {"postgres"},
        "code": {"postgres", "mlflow"},
        "webserver": {"postgres", "code"},
        "daemon": {"postgres", "code"},
    }


def test_only_the_two_web_pages_are_published_and_only_to_this_host(compose: dict[str, Any]) -> None:
    ports = {name: s["ports"] for name, s in compose["services"].items() if "ports" in s}
    assert set(ports) == {"mlflow", "webserver"}
    assert all(port.startswith("127.0.0.1:") for mapped in ports.values() for port in mapped)
    assert (
        compose["services"]["postgres"]["networks"] == ["inside"] and compose["networks"]["inside"]["internal"] is True
    )


def test_passwords_come_from_outside_and_are_required(compose: dict[str, Any]) -> None:
    secrets = [
        str(value)
        for service in compose["services"].values()
        for key, value in service.get("environment", {}).items()
        if "PASSWORD" in key
    ]
    assert len(secrets) >= 5
    assert all(re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value) for value in secrets)


def test_the_example_names_every_variable_and_holds_no_password(compose: dict[str, Any]) -> None:
    example = (DOCKER / ".env.example").read_text(encoding="utf-8")
    named = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", example, re.MULTILINE))
    asked = set(re.findall(r"\$\{([A-Z_]+)", (DOCKER / "compose.yaml").read_text(encoding="utf-8")))
    assert set(named) == asked
    assert all(value == "" for name, value in named.items() if "PASSWORD" in name)


@pytest.mark.parametrize(
    "path", sorted(p for p in DOCKER.iterdir() if p.is_file() and p.name != ".env"), ids=lambda p: p.name
)
def test_no_file_holds_a_secret(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"://[^\s/:@]+:[^\s/@]+@", text), "an address with a password in it"
    assert not re.search(r"(?im)(password|secret|token)\w*[ \t]*[=:][ \t]*['\"]?[a-z0-9]{6,}['\"]?$", text)


def test_nothing_in_the_folder_can_be_imported() -> None:
    """A package `docker` here would hide the library of that name, which MLflow imports."""
    assert not list(DOCKER.rglob("*.py"))


def test_runs_and_web_pages_share_one_image_and_one_state_volume(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {services[name]["image"] for name in OURS} == {"microseg:latest"}
    assert [name for name in OURS if "build" in services[name]] == ["code"]
    assert all("state:/var/lib/microseg" in services[name]["volumes"] for name in ("code", "webserver", "daemon"))
    assert {v.split(":")[0] for s in services.values() for v in s["volumes"] if v[0] not in "./$"} == set(
        compose["volumes"]
    )


def test_the_workspace_finds_the_code_server_where_compose_starts_it(compose: dict[str, Any]) -> None:
    (location,) = yaml.safe_load((DOCKER / "workspace.yaml").read_text(encoding="utf-8"))["load_from"]
    command = compose["services"]["code"]["command"]
    assert location["grpc_server"]["host"] == "code"
    assert str(location["grpc_server"]["port"]) == command[command.index("-p") + 1]
    assert command[command.index("-m") + 1] == "microseg_assets.definitions"


def test_the_image_ends_without_root_and_copies_what_exists(compose: dict[str, Any]) -> None:
    lines = (DOCKER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == [compose["services"]["code"]["user"]]
    sources = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    allowed = (DOCKER.parent / ".dockerignore").read_text(encoding="utf-8").split()
    assert sources and all(f"!{source}" in allowed for source in sources)
    assert not [source for source in sources if not (DOCKER.parent / source).exists()]


def test_dagster_yaml_reads_only_variables_that_its_service_has(compose: dict[str, Any]) -> None:
    text = (DOCKER / "dagster.yaml").read_text(encoding="utf-8")
    for name in ("code", "webserver", "daemon"):
        assert set(re.findall(r"\{env: (\w+)\}", text)) <= set(compose["services"][name]["environment"])
    assert yaml.safe_load(text)["telemetry"] == {"enabled": False}


# ---------------------------------------------------------------- what happens


@dataclass(frozen=True)
class Databases:
    """What `init-databases.sh` has made in the throwaway server."""

    server: PostgresServer
    passwords: dict[str, str]

    def query(self, sql: str, *, user: str, database: str) -> list[tuple[Any, ...]]:
        import psycopg2

        connection = psycopg2.connect(
            host=self.server.host, port=self.server.port, user=user, password=self.passwords[user], dbname=database
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                rows: list[tuple[Any, ...]] = cursor.fetchall()
                return rows
        finally:
            connection.close()


@pytest.fixture(scope="module")
def databases(postgres_server: PostgresServer) -> Databases:
    # A quote, an @ and a space: whatever is in a password, nothing pastes it into an address or a statement.
    passwords = {name: f"it's @ {secrets.token_hex(8)}" for name in ("dagster", "mlflow")}
    environment = {
        **os.environ,
        "PATH": f"{postgres_server.programs}:{os.environ['PATH']}",
        "PGHOST": postgres_server.host,
        "PGPORT": str(postgres_server.port),
        "PGPASSWORD": postgres_server.password,
        **{f"{name.upper()}_DB_PASSWORD": password for name, password in passwords.items()},
    }
    done = subprocess.run(
        ["bash", DOCKER / "init-databases.sh"], env=environment, capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Databases(postgres_server, passwords)


@pytest.mark.postgres
def test_each_database_has_an_owner_that_cannot_enter_the_other(databases: Databases) -> None:
    import psycopg2

    for user, other in (("dagster", "mlflow"), ("mlflow", "dagster")):
        assert databases.query("select current_user", user=user, database=user) == [(user,)]
        with pytest.raises(psycopg2.OperationalError, match="permission denied"):
            databases.query("select 1", user=user, database=other)


@pytest.fixture
def dagster_home(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """docker/dagster.yaml as the instance of this process and of those that it starts."""
    home = tmp_path / "dagster-home"
    home.mkdir()
    # The port of compose's database is the usual one; the throwaway server's is not.
    settings = yaml.safe_load((DOCKER / "dagster.yaml").read_text(encoding="utf-8"))
    settings["storage"]["postgres"]["postgres_db"]["port"] = databases.server.port
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for name, value in {
        "DAGSTER_HOME": str(home),
        "DAGSTER_PG_HOST": databases.server.host,
        "DAGSTER_PG_USER": "dagster",
        "DAGSTER_PG_PASSWORD": databases.passwords["dagster"],
        "DAGSTER_PG_DB": "dagster",
        "DAGSTER_STATE": str(tmp_path / "state"),
    }.items():
        monkeypatch.setenv(name, value)
    return home


@pytest.mark.postgres
def test_dagster_writes_its_events_to_postgresql_and_reads_them_back(dagster_home: Path, databases: Databases) -> None:
    with dg.DagsterInstance.get() as instance:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(["complete_journey", "customers"], partition="2017-03-01")
        )
    with dg.DagsterInstance.get() as instance:
        assert instance.get_materialized_partitions(dg.AssetKey(["complete_journey", "customers"])) == {"2017-03-01"}
        assert not instance.telemetry_enabled
    ((events,),) = databases.query("select count(*) from event_logs", user="dagster", database="dagster")
    assert events >= 1
    assert [path.name for path in dagster_home.iterdir()] == ["dagster.yaml"], "the image's folder is read-only"


CODE = """
import dagster as dg

@dg.asset
def customers():
    print("two customers")
    return 2

defs = dg.Definitions([customers], jobs=[dg.define_asset_job("daily", [customers])])
"""


@pytest.mark.postgres
def test_a_queued_run_is_executed_by_the_code_server(
    compose: dict[str, Any], dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon takes it from the queue, the code server runs it, PostgreSQL has the outcome."""
    from tests.conftest import free_port, is_listening

    (tmp_path / "stand_in.py").write_text(CODE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    port = free_port()
    workspace = yaml.safe_load((DOCKER / "workspace.yaml").read_text(encoding="utf-8"))
    workspace["load_from"][0]["grpc_server"].update(host="127.0.0.1", port=port)
    written = tmp_path / "workspace.yaml"
    written.write_text(yaml.safe_dump(workspace), encoding="utf-8")

    swap = {"0.0.0.0": "127.0.0.1", "4000": str(port), "microseg_assets.definitions": "stand_in"}
    server = [swap.get(word, word) for word in compose["services"]["code"]["command"]]
    well = [swap.get(word, word) for word in compose["services"]["code"]["healthcheck"]["test"][1:]]
    daemon = [{"/opt/dagster/workspace.yaml": str(written)}.get(w, w) for w in compose["services"]["daemon"]["command"]]
    with started(server, tmp_path) as code_server:
        until(lambda: is_listening(port), code_server)
        assert subprocess.run([BIN / well[0], *well[1:]], capture_output=True, timeout=60).returncode == 0
        launch = ["job", "launch", "-w", str(written), "-l", "microseg", "-j", "daily"]
        done = subprocess.run([BIN / "dagster", *launch], capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        with dg.DagsterInstance.get() as instance, started(daemon, tmp_path) as worker:
            until(lambda: all(run.is_finished for run in instance.get_runs()), worker)
            (run,) = instance.get_runs()
            assert run.status == dg.DagsterRunStatus.SUCCESS
            liveness = compose["services"]["daemon"]["healthcheck"]["test"][1:]
            assert subprocess.run([BIN / liveness[0], *liveness[1:]], capture_output=True).returncode == 0
    printed = [path for path in (tmp_path / "state").rglob("*.out") if "two customers" in path.read_text()]
    assert printed, "what a run prints is on the volume that the webserver reads"


@pytest.mark.postgres
def test_mlflow_serves_from_postgresql_to_the_hosts_it_knows(
    compose: dict[str, Any], databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.conftest import free_port

    port, server, artifacts = free_port(), databases.server, tmp_path / "artifacts"
    command = compose["services"]["mlflow"]["command"]
    swaps = {
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=5000": f"--port={port}",
        "@postgres:5432/": f"@{server.host}:{server.port}/",
        "file:///var/lib/mlflow": artifacts.as_uri(),
        "--workers=2": "--workers=1",
    }
    for old, new in swaps.items():
        assert any(old in word for word in command), old
        command = [word.replace(old, new) for word in command]
    environment = {**compose["services"]["mlflow"]["environment"], "PGPASSWORD": databases.passwords["mlflow"]}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def status(path: str, host: str) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    work = tmp_path / "work"
    work.mkdir()
    with started(command, work) as process:
        until(lambda: status("/health", "127.0.0.1") == 200, process)
        search = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
        assert status(search, "mlflow:5000") == 200, "the code server's way"
        assert status(search, f"127.0.0.1:{port}") == 200, "a browser's way on this host"
        assert status(search, "elsewhere.example") == 403

        from mlflow import MlflowClient

        client = MlflowClient(f"http://127.0.0.1:{port}")
        run = client.create_run(client.create_experiment("complete_journey/value"))
        client.log_metric(run.info.run_id, "gini", 0.6)
        client.log_text(run.info.run_id, json.dumps({"a": 1}), "plots/note.json")
        client.set_terminated(run.info.run_id)
        assert client.get_run(run.info.run_id).data.metrics == {"gini": 0.6}
    assert databases.query("select key, value from metrics", user="mlflow", database="mlflow") == [("gini", 0.6)]
    assert [path.name for path in artifacts.rglob("*.json")] == ["note.json"]
    assert not list(work.iterdir()), "the container's own folders are read-only"


@contextmanager
def started(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program of this environment, ended with all its children at the end."""
    log = folder.parent / f"{folder.name}-{command[0]}-{time.monotonic_ns()}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [BIN / command[0], *command[1:]], cwd=folder, stdout=out, stderr=out, start_new_session=True
        )  # fmt: skip
    process.log = log  # type: ignore[attr-defined]
    try:
        yield process
    finally:
        for signal, patience in ((15, 20), (9, 20)):
            try:
                os.killpg(process.pid, signal)
                process.wait(patience)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def until(holds: Any, process: subprocess.Popen[bytes], patience: float = 90) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            log = Path(process.log).read_text(errors="replace")  # type: ignore[attr-defined]
            raise AssertionError(f"{process.args!r} {'ended' if ended else 'is not ready'}:\n{log[-4000:]}")
        time.sleep(0.2)
