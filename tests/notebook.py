"""Runs the notebook of `docs/` from its first cell to its last, as a reader would.

`python -m tests.notebook` runs it and stores it with what it printed and drew, which a forge then shows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "first_week.ipynb"
KEY_FIGURES = "key-figures"  # the tag of cells whose printed figures must not change


def read(path: Path = NOTEBOOK) -> nbformat.NotebookNode:
    """A stored notebook."""
    return nbformat.read(path, as_version=4)


def executed(notebook: nbformat.NotebookNode, *, timeout: int = 600) -> nbformat.NotebookNode:
    """Run a notebook in a kernel of its own; its outputs replace those that it has.

    Parameters
    ----------
    timeout : int, default 600
        Seconds that a cell may take.
    """
    client = NotebookClient(notebook, timeout=timeout, kernel_name="python3", record_timing=False)
    return client.execute(cwd=str(NOTEBOOK.parent))


def key_figures(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, str]]:
    """Id and printed text of each cell with the tag `KEY_FIGURES`."""
    for cell in notebook.cells:
        if KEY_FIGURES in cell.metadata.get("tags", ()):
            yield cell.id, "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")


def main(path: Path) -> None:
    """Run a notebook and store it with its outputs."""
    notebook = executed(read(path))
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else NOTEBOOK)
