"""The command line: what a user gets wrong is one sentence with file, key and remedy, exit code 2, nothing written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import jsonschema  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from microseg_assets.cli.main import main
from microseg_assets.definitions import defs
from microseg_assets.home import Home, HomeError
from ml.engine import DuckDB

REPOSITORY = Path(__file__).parents[2]
PROJECT = """\
name: shop
start: 2024-01-01
end: 2024-01-31
tables:
  transactions:
    path: sales.parquet
"""


@dataclass(frozen=True)
class Desk:
    """A user's folder with a project and its source, and the state folder that a command would make."""

    folder: Path

    @property
    def project(self) -> Path:
        return self.folder / "shop.yaml"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def sells(self, **columns: list[object]) -> None:
        table = {"customer_id": ["a"], "occurred_at": ["2024-01-02"], "amount": [1.5], **columns}
        pq.write_table(pa.table({k: v for k, v in table.items() if v}), self.folder / "sales.parquet")

    def asks(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code and what is said on stdout and stderr."""
        result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
        return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = Desk(tmp_path)
    made.project.write_text(PROJECT)
    made.sells()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MICROSEG_HOME", str(made.home))
    return made


RUN = ("run", "--project", "shop.yaml", "--from", "2024-01-02")


def is_one_sentence(said: str) -> bool:
    lines = said.strip().splitlines()
    return len(lines) == 1 and lines[0].startswith("microseg: ") and "Traceback" not in said


def test_a_state_folder_that_is_a_file_is_reported_in_one_sentence(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = desk.project.with_name("taken")
    taken.write_text("")
    monkeypatch.setenv("MICROSEG_HOME", str(taken))
    code, _, err = desk.asks(*RUN)
    assert code == 2 and err.splitlines()[-1].startswith("microseg: the state folder") and "Traceback" not in err


def test_a_read_only_state_folder_is_reported_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/sys is there, and even root cannot make a file in it."""
    monkeypatch.setenv("MICROSEG_HOME", "/sys")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with pytest.raises(HomeError, match=r"the state folder /sys cannot be written to .*: make it writable, or set"):
        Home.from_environment().prepare()


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("MICROSEG_MEMORY", "4 gigs", "MICROSEG_MEMORY is '4 gigs': set it to an amount of memory, such as 4GB"),
        ("MICROSEG_THREADS", "0", "MICROSEG_THREADS is '0': set it to a number of threads, such as 4"),
    ],
)
def test_limits_of_the_engine_that_cannot_be_meant_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(HomeError, match=sentence):
        Home(tmp_path).engine_limits()


def test_queries_keep_to_the_limits_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROSEG_MEMORY", "200MB")
    monkeypatch.setenv("MICROSEG_THREADS", "1")
    engine = DuckDB(**Home(tmp_path).engine_limits())
    limits = "SELECT current_setting('memory_limit') AS memory, current_setting('threads') AS threads"
    assert engine.query(limits).to_pylist() == [{"memory": "190.7 MiB", "threads": 1}]
    wide = "SELECT DISTINCT CAST(range AS VARCHAR) || REPEAT('x', 50) AS text FROM RANGE(3000000)"
    assert engine.query(f"SELECT COUNT(*) AS n FROM ({wide})")["n"].to_pylist() == [3_000_000], "put in files"


# ── help ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_commands_are_the_documented_ones() -> None:
    assert {"demo", "run", "status", "show", "check", "schema", "ui"} <= set(main.commands)


@pytest.mark.parametrize("command", [None, *sorted(main.commands)])
def test_every_command_explains_itself(desk: Desk, command: str | None) -> None:
    code, out, err = desk.asks(*([command] if command else []), "--help")
    assert code == 0 and err == "" and out.startswith("Usage: ")
    summary = out.splitlines()[2].strip()
    assert summary, "it says what it is for"
    group = main.commands[command] if command else main
    for parameter in group.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} is not explained"
    assert not desk.home.exists()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from microseg_assets.cli.main import main;"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0;"
        "print(sorted({'mlflow', 'great_expectations', 'sklearn', 'lightgbm', 'pandas', 'duckdb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


# ── a mistake in the project file or a source ─────────────────────────────────────────────────────────────────────


def _no_source(desk: Desk) -> None:
    (desk.folder / "sales.parquet").unlink()


def _no_column(desk: Desk) -> None:
    desk.sells(amount=[])


def _unreadable(desk: Desk) -> None:
    (desk.folder / "sales.parquet").write_bytes(b"PAR1 and then the line broke")


def _unknown_key(desk: Desk) -> None:
    desk.project.write_text(PROJECT + "curency: EUR\n")


def _wrong_type(desk: Desk) -> None:
    desk.project.write_text(PROJECT + "value:\n  horizon_days: ninety\n")


def _wrong_rule(desk: Desk) -> None:
    desk.project.write_text(PROJECT + "audiences:\n  - {name: gone, when: recency > 9}\n")


BAD_INPUT = {
    "a missing source file": (
        _no_source, 6, "tables.transactions.path", "there is no file sales.parquet", "put it there or correct",
    ),
    "a missing column": (
        _no_column, 5, "tables.transactions.columns.amount", "no source column is called amount", "map it to one",
    ),
    "an unreadable Parquet file": (
        _unreadable, 6, "tables.transactions.path", "sales.parquet cannot be read as Parquet", "deliver it again",
    ),
    "an unknown key": (_unknown_key, 7, "'curency'", "unknown key", "did you mean 'currency'?"),
    "a wrong type": (_wrong_type, 8, "'value.horizon_days'", "it is 'ninety'", "must be a whole number"),
    "a rule of an unknown column": (_wrong_rule, 8, "'audiences.0.when'", "'recency'", "did you mean 'recency_days'?"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BAD_INPUT)
@pytest.mark.parametrize("command", [RUN, ("check", "shop.yaml")], ids=["run", "check"])
def test_bad_input_is_one_sentence_with_file_line_key_and_remedy_and_nothing_is_written(
    desk: Desk, command: tuple[str, ...], mistake: str
) -> None:
    make, line, key, what, remedy = BAD_INPUT[mistake]
    make(desk)
    before = sorted(p.name for p in desk.folder.iterdir())
    code, _, said = desk.asks(*command)
    assert code == 2
    assert is_one_sentence(said), said
    assert f"shop.yaml:{line}: " in said
    for part in (key, what, remedy):
        assert part in said, said
    assert sorted(p.name for p in desk.folder.iterdir()) == before, "nothing is written"


@pytest.mark.parametrize("command", ["status", "show", "ui"])
def test_every_command_says_what_is_wrong_with_the_project_file(desk: Desk, command: str) -> None:
    _unknown_key(desk)
    code, out, said = desk.asks(command, "--project", "shop.yaml")
    assert (code, out) == (2, "") and is_one_sentence(said) and "shop.yaml:7: unknown key 'curency'" in said
    assert not desk.home.exists()


def test_a_check_reports_every_problem_at_once(desk: Desk) -> None:
    desk.sells(amount=[], occurred_at=[])
    desk.project.write_text(PROJECT + "  events: {path: clicks.csv}\n")
    code, out, said = desk.asks("check", "shop.yaml")
    assert code == 2 and "see below" in out
    keys = ("transactions.columns.amount", "transactions.columns.occurred_at", "events.path")
    assert all(f"tables.{key}: " in said for key in keys) and len(said.splitlines()) == 3


def test_a_check_of_a_valid_project_summarizes_it(desk: Desk) -> None:
    desk.sells(
        customer_id=["a", "b", "c"], occurred_at=["2024-01-02", "2024-01-05", "2023-12-30"], amount=[1.0, 2.0, 3.0]
    )
    code, out, said = desk.asks("check", "shop.yaml")
    assert (code, said) == (0, "")
    assert "3 rows, 2024-01-02 … 2024-01-05, 1 outside the calendar" in out
    assert "  events        switched off (not in the project file)" in out
    assert not desk.home.exists()


def test_a_mistake_in_a_real_process_leaves_no_traceback(desk: Desk) -> None:
    _no_source(desk)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "microseg_assets.cli", *RUN],
        cwd=desk.folder, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert is_one_sentence(done.stderr), done.stderr
    assert not desk.home.exists()


# ── projects that are not there ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", [("run", "--from", "2024-01-02"), ("status",), ("show",), ("ui",)])
def test_an_unknown_project_name_is_answered_with_the_nearest_one(desk: Desk, command: tuple[str, ...]) -> None:
    code, _, said = desk.asks(command[0], "--project", "complete_jurney", *command[1:])
    assert code == 2 and is_one_sentence(said) and "did you mean 'complete_journey'?" in said


def test_a_missing_project_file_is_reported_with_its_path(desk: Desk) -> None:
    code, _, said = desk.asks("status", "--project", "nowhere/shop.yaml")
    assert code == 2 and is_one_sentence(said) and "nowhere/shop.yaml: there is no such project file" in said


def test_the_environment_names_the_project_if_no_option_does(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROSEG_PROJECT", "shop.yaml")
    assert desk.asks("status")[1].startswith("shop  (shop.yaml)")
    monkeypatch.setenv("MICROSEG_PROJECT", "nothing_like_it")
    code, _, said = desk.asks("status")
    assert code == 2 and "there is no project 'nothing_like_it'" in said
    assert desk.asks("status", "--project", "shop.yaml")[0] == 0, "the option wins"


@pytest.mark.parametrize("named", ["nothing_like_it", "shop.yaml,nothing_like_it"])
def test_a_code_location_of_an_unknown_project_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("MICROSEG_PROJECT", named)
    with pytest.raises(ValueError, match="there is no project 'nothing_like_it'; known here: cdnow, complete_journey"):
        defs()
    assert not desk.home.exists()


def test_a_code_location_takes_several_projects(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk.folder / "bar.yaml").write_text(PROJECT.replace("shop", "bar"))
    monkeypatch.setenv("MICROSEG_PROJECT", "shop.yaml, bar.yaml")
    keys = defs().resolve_all_asset_keys()
    assert {key.path[0] for key in keys} == {"shop", "bar"} and len(keys) % 2 == 0


# ── days ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("days", "said"),
    [
        ((), "name the days: --from YYYY-MM-DD [--to YYYY-MM-DD]"),
        (("--to", "2024-01-02"), "name the days"),
        (("--from", "2024-02-30"), "'2024-02-30' does not match the format"),
        (("--from", "yesterday"), "'yesterday' does not match the format"),
        (("--from", "2023-12-31"), "does not lie between the project's start 2024-01-01 and its end 2024-01-31"),
        (("--from", "2024-01-30", "--to", "2024-02-01"), "does not lie between the project's start"),
        (
            ("--from", "2024-01-05", "--to", "2024-01-03"),
            "the last day 2024-01-03 lies before the first day 2024-01-05",
        ),
    ],
)
def test_impossible_days_are_rejected_and_nothing_is_written(desk: Desk, days: tuple[str, ...], said: str) -> None:
    code, out, err = desk.asks("run", "--project", "shop.yaml", *days)
    assert code == 2 and out == "" and said in err and "Traceback" not in err
    assert not desk.home.exists()


# ── before anything ran ───────────────────────────────────────────────────────────────────────────────────────────


def test_status_before_anything_ran_says_how_to_begin(desk: Desk) -> None:
    code, out, _ = desk.asks("status", "--project", "shop.yaml")
    assert code == 0 and "Nothing is there yet: microseg run --project shop.yaml --from 2024-01-01" in out
    assert not desk.home.exists(), "looking makes nothing"


@pytest.mark.parametrize("what", ["summary", "segments", "movements", "plan"])
def test_show_before_anything_ran_says_where_to_look(desk: Desk, what: str) -> None:
    code, out, said = desk.asks("show", what, "--project", "shop.yaml")
    assert code == 2 and out == "" and is_one_sentence(said)
    assert "`microseg status` shows what is there" in said
    assert not desk.home.exists()


def test_show_customer_requires_a_customer(desk: Desk) -> None:
    code, _, said = desk.asks("show", "customer", "--project", "shop.yaml")
    assert code == 2 and "name the customer: microseg show customer ID" in said


def test_an_unknown_view_lists_the_known_ones(desk: Desk) -> None:
    code, _, said = desk.asks("show", "segmnts", "--project", "shop.yaml")
    assert code == 2 and "segments" in said and "movements" in said


# ── the schema and the ports ──────────────────────────────────────────────────────────────────────────────────────


def test_the_schema_is_json_that_accepts_a_valid_project_and_rejects_a_mistake(desk: Desk) -> None:
    code, out, _ = desk.asks("schema")
    assert code == 0
    validator = jsonschema.Draft202012Validator(json.loads(out))
    sound = {"name": "shop", "start": "2024-01-01", "tables": {"transactions": {"path": "a.csv"}}}
    validator.validate(sound)
    assert not validator.is_valid({**sound, "curency": "EUR"})


@pytest.mark.parametrize("option", ["--port", "--mlflow-port"])
def test_a_port_in_use_is_reported_with_the_option_to_change_it(desk: Desk, option: str) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        free = {"--port": "--mlflow-port", "--mlflow-port": "--port"}[option]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            unused = probe.getsockname()[1]
        code, _, said = desk.asks("ui", "--project", "shop.yaml", option, str(port), free, str(unused))
    assert code == 2 and is_one_sentence(said)
    assert f"port {port} is in use: stop what uses it, or choose another with {option}" in said
    assert not desk.home.exists()
