"""What developers run: the hooks before a commit, and the pages of the library."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.docstrings import packages

ROOT = Path(__file__).parents[1]
API = ROOT / "docs" / "api"


def test_every_package_and_top_module_of_the_library_has_a_page() -> None:
    listed = re.findall(r"^ +(ml\.[\w.]+)$", (API / "index.rst").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(packages())


def test_hooks_need_no_network_and_no_program_outside_of_the_environment() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    for hook in config["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")


def test_a_hook_refuses_what_its_program_refuses_and_lets_the_rest_pass(tmp_path: Path) -> None:
    if not (ROOT / ".venv" / "bin" / "pre-commit").exists():
        pytest.skip("needs .venv: make venv")
    shutil.copy(ROOT / ".pre-commit-config.yaml", tmp_path)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "good.py").write_text('"""A module."""\n', encoding="utf-8")
    (tmp_path / "bad.py").write_text("import os\n", encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)

    def run(file: str) -> subprocess.CompletedProcess[str]:
        command = [".venv/bin/pre-commit", "run", "ruff-check", "--files", file]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    subprocess.run(["git", "add", "good.py", "bad.py", ".pre-commit-config.yaml"], cwd=tmp_path, check=True)
    assert run("good.py").returncode == 0
    refused = run("bad.py")
    assert refused.returncode == 1 and "ruff check" in refused.stdout
