"""A short form of each fuzzer, with fixed cases, in its own process: one that forks must not have used torch before."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
CASES = {"arguments": 80, "files": 80, "api": 120, "kills": 8, "errors": 16}

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
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent / "src")},
    )
    details = "\n".join(file.read_text(encoding="utf-8") for file in sorted((tmp_path / "findings").glob("*"))[:3])
    assert done.returncode == 0, f"{done.stdout}\n{details}{done.stderr}"
    assert re.search(rf"^fuzz_{name}.py: {CASES[name]} cases, 0 tracebacks, 0 hangs", done.stdout, re.MULTILINE)


# --- what a fuzzer would find ------------------------------------------------------------------------------------


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch):
    """The kinds of findings for an outcome, or for folders before and after."""
    monkeypatch.syspath_prepend(str(FOLDER))
    from fuzzing_checks import check_folders, check_outcome
    from fuzzing_child import Outcome

    def of_outcome(code: int, stderr: str = "", stdout: str = "", **more: object) -> set[str]:
        outcome = Outcome(code, stdout.encode(), stderr.encode(), 0.1, 10**8, **more)  # type: ignore[arg-type]
        return {finding.kind for finding in check_outcome(outcome)}

    def of_folders(before: set[str], after: set[str], code: int) -> set[str]:
        found = check_folders(dict.fromkeys(before, b"1"), dict.fromkeys(after, b"1"), code, ["work/out"], ["work/out"])
        return {finding.kind for finding in found}

    return of_outcome, of_folders


ONE_LINE = "glassgpt: run: no such run folder\n"


@pytest.mark.parametrize(
    ("expected", "outcome"),
    [
        (set(), {"code": 0, "stdout": "fine\n"}),
        (set(), {"code": 2, "stderr": "glassgpt: warning: slow\n" + ONE_LINE}),
        ({"traceback"}, {"code": 1, "uncaught": 'File "/x/glassgpt/files.py", line 3\nKeyError: 1'}),
        ({"traceback"}, {"code": 0, "stderr": "Exception ignored in: <stdout>\n"}),
        ({"traceback"}, {"code": 2, "stderr": "glassgpt: a bug in glassgpt: please report it\n"}),
        ({"message"}, {"code": 2}),
        ({"message"}, {"code": 2, "stderr": ONE_LINE + "and more\n"}),
        ({"message"}, {"code": 2, "stderr": "glassgpt: " + "x" * 700 + "\n"}),
        ({"message"}, {"code": 0, "stdout": "a\x1b[31mb\n"}),
        ({"code"}, {"code": -11}),
        ({"code"}, {"code": 1}),
        ({"hang"}, {"code": -9, "ended": "hang"}),
        ({"network"}, {"code": 2, "stderr": ONE_LINE, "connected": "'example.org'"}),
        ({"left"}, {"code": 0, "children": True}),
    ],
)
def test_an_outcome_is_judged(expected: set[str], outcome: dict, kinds) -> None:
    assert kinds[0](**outcome) == expected


@pytest.mark.parametrize(
    ("expected", "before", "after", "code"),
    [
        (set(), {"work/a"}, {"work/a", "work/out"}, 0),
        (set(), {"work/a"}, {"work/a"}, 2),
        (set(), {"work/a"}, {"work/a", "cache/tokens/.k.lock"}, 2),
        ({"left"}, {"work/a"}, {"work/a", "work/out"}, 2),
        ({"left"}, {"work/a"}, {"work/a", "work/b"}, 0),
        ({"left"}, {"work/a"}, {"work/a", "work/.out.7.tmp"}, 0),
        ({"left"}, {"work/a"}, {"work/a", "tmp/x"}, 0),
        ({"changed"}, {"work/a"}, set(), 0),
        ({"changed"}, {"work/out"}, set(), 2),
    ],
)
def test_folders_are_judged(expected: set[str], before: set[str], after: set[str], code: int, kinds) -> None:
    assert kinds[1](before, after, code) == expected
