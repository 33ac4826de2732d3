"""The lock between processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NESTED = """
import os, sys
from pathlib import Path
from microseg_assets.file_lock import file_lock
os.chdir(sys.argv[1])
with file_lock(Path(sys.argv[1], ".lock")), file_lock(Path(".lock")), file_lock(Path(sys.argv[2], ".lock")):
    print("held")
"""


def test_a_process_does_not_wait_for_itself_under_another_name_of_the_lock(tmp_path: Path) -> None:
    """As if MLFLOW_TRACKING_URI is relative, or the state folder is reached by a link."""
    folder, link = tmp_path / "home", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    command = [sys.executable, "-c", NESTED, str(folder), str(link)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "held\n", done.stderr
