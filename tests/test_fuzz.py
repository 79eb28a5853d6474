"""A short form of each fuzzer, with fixed cases, in its own process: one that forks must not have used torch before."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
CASES = {"arguments": 150, "files": 150, "api": 250, "kills": 25, "errors": 40}

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the fuzzers fork and read /proc")


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_found(name: str, tmp_path: Path) -> None:
    words = [sys.executable, FOLDER / f"fuzz_{name}.py", "--seed", "0", "--cases", str(CASES[name])]
    done = subprocess.run(
        [*words, "--folder", tmp_path / "stage", "--findings", tmp_path / "findings"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent / "src")},
    )
    details = "\n".join(file.read_text(encoding="utf-8") for file in sorted((tmp_path / "findings").glob("*"))[:3])
    assert done.returncode == 0, f"{done.stdout}\n{details}{done.stderr}"
    assert re.search(rf"^fuzz_{name}.py: {CASES[name]} cases, 0 tracebacks, 0 hangs", done.stdout, re.MULTILINE)
