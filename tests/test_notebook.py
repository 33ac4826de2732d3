"""The notebook of `docs/`: it runs with the library alone, and what it shows is what it computes."""

from __future__ import annotations

import copy
import importlib.util
import re

import nbformat
import pytest

from tests.notebook import NOTEBOOK, executed, key_figures, read

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
TOLERANCE = 0.02  # machines differ in the last digits of a fit, and a customer may then be on the other side of a cut
FORBIDDEN = ("dagster", "great_expectations", "lifetimes", "microseg_assets", "mlflow")

stored = read()


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def test_it_is_stored_with_its_pictures_and_is_small() -> None:
    outputs = [output for cell in stored.cells for output in cell.get("outputs", ())]
    assert 3 <= sum("image/png" in output.get("data", {}) for output in outputs) <= 4
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    assert NOTEBOOK.stat().st_size < 400_000


@pytest.mark.skipif(importlib.util.find_spec("lifetimes") is None, reason="needs CDNOW: the extra `cdnow`")
def test_run_again_it_prints_the_key_figures_that_it_stores_and_loads_no_orchestrator() -> None:
    notebook = copy.deepcopy(stored)
    loaded = "import sys\nprint(sorted({name.partition('.')[0] for name in sys.modules}))"
    notebook.cells.append(nbformat.v4.new_code_cell(loaded))
    notebook = executed(notebook)
    before, after = dict(key_figures(stored)), dict(key_figures(notebook))
    assert len(before) >= 5 and all(map(numbers, before.values()))
    assert before.keys() == after.keys()
    for cell, text in before.items():
        assert numbers(after[cell]) == pytest.approx(numbers(text), rel=TOLERANCE, abs=1), after[cell]
        assert NUMBER.sub("#", after[cell]).split() == NUMBER.sub("#", text).split()
    modules = notebook.cells[-1].outputs[0].text
    assert "'ml'" in modules
    assert [name for name in FORBIDDEN if f"'{name}'" in modules] == []
