"""benchmarks/gpu.py: what is missing is said, a part that fails ends no other, and what was measured is on the disk."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from importlib.metadata import distributions, requires, version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement

from benchmarks.on_gpu import packages, part
from benchmarks.on_gpu.limited import run_limited
from benchmarks.on_gpu.table import page

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals")


def script(*words: object, **settings: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **settings)  # type: ignore[call-overload]


# --- packages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", packages.all_needed())
def test_what_packages_need_is_known(name: str) -> None:
    """The table is held against what the installed ones say, for the kind of machine that it is about."""
    there = {"python_version": "3.12", "python_full_version": "3.12.3"}
    there |= {"platform_system": "Linux", "sys_platform": "linux"}
    if name not in {packages.normal(found.name) for found in distributions()}:
        pytest.skip(f"{name} is not installed here")
    needed = {
        packages.normal(needs.name)
        for needs in map(Requirement, requires(name) or ())
        if needs.marker is None or needs.marker.evaluate({**there, "extra": ""})
    }
    assert needed <= set(packages.NEEDS.get(name, ())), name


def test_the_way_to_bring_packages_names_no_host() -> None:
    done = script("--needs", "--python", "3.12")
    assert done.returncode == 0
    assert done.stdout.startswith("python3 -m pip download --only-binary=:all: ")
    assert "--python-version 3.12 --abi cp312 --abi abi3 --abi none" in done.stdout
    assert "'pydantic>=2.7' 'pydantic-core'" in done.stdout and "'tomli-w>=1.0'" in done.stdout
    assert "http" not in done.stdout and "torch" not in done.stdout


def test_missing_and_old_packages_are_found_with_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    assert packages.missing() == []

    def found(name: str) -> str:
        if name in ("pydantic", "pydantic-core", "typing-inspection", "tomli-w"):
            raise packages.PackageNotFoundError(name)
        return "4.9.9" if name == "cyclopts" else version(name)

    monkeypatch.setattr(packages, "version", found)
    assert packages.missing() == ["cyclopts", "pydantic", "pydantic-core", "tomli-w", "typing-inspection"]


def test_wheels_are_used_without_an_installation(tmp_path: Path) -> None:
    mine = f"cp{sys.version_info.major}{sys.version_info.minor}"
    for name, content in (
        ("some_thing-1.0-py3-none-any.whl", "right = True"),
        (f"other-2.0-{mine}-{mine}-manylinux_2_17_x86_64.whl", "right = True"),
        ("some_thing-2.0-cp27-cp27m-manylinux1_x86_64.whl", "right = False"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as wheel:
            wheel.writestr(f"{name.split('-')[0]}.py", content)
    into = tmp_path / "site"
    with zipfile.ZipFile(tmp_path / f"numpy-99.0-{mine}-{mine}-manylinux_2_17_x86_64.whl", "w") as wheel:
        wheel.writestr("numpy.py", "right = False")  # of what is here already, it is that which is used
    assert packages.unpack(tmp_path, into) == ["other", "some-thing"]
    assert not (into / "numpy.py").exists()
    assert (into / "some_thing.py").read_text(encoding="utf-8") == "right = True"


# --- parts --------------------------------------------------------------------------------------------------------


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_command_may_end_in_any_way() -> None:
    assert run_limited(python("pass"), 60).state == "done"
    failed = run_limited(python("import sys; sys.exit('no such thing')"), 60)
    assert (failed.state, failed.code, failed.said) == ("failed", 1, "no such thing")


@POSIX
def test_a_command_that_is_killed_says_so() -> None:
    killed = run_limited(python("import os; os.kill(os.getpid(), 9)"), 60)
    assert (killed.state, killed.code) == ("killed", -signal.SIGKILL)


@POSIX
def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    note = tmp_path / "child"
    child = f"import os, time; open({str(note)!r} + '.tmp', 'w').write(str(os.getpid())); "
    child += f"os.rename({str(note)!r} + '.tmp', {str(note)!r}); time.sleep(600)"
    hangs = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    ended = run_limited(python(hangs), 5)
    assert ended.state == "timed out" and ended.code is None
    pid = int(note.read_text())
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace"):
            return  # ended, and no one has asked for its exit code
        time.sleep(0.05)
    raise AssertionError("what it started is still there")


def place_in(folder: Path, seconds: float = 60.0) -> part.Place:
    return part.Place("cpu", True, folder / "rows.json", time.time() + seconds)


def test_a_check_that_fails_ends_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(_: torch.device) -> dict:
        raise AssertionError("off by 1")

    def full(_: torch.device) -> dict:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def lacking(_: torch.device) -> dict:
        import no_such_package  # noqa: F401

    checks = {"wrong": wrong, "full": full, "lacking": lacking, "right": lambda device: {"device": str(device)}}
    monkeypatch.setitem(sys.modules, "benchmarks.on_gpu.made_up", SimpleNamespace(CHECKS=checks))  # type: ignore[arg-type]
    monkeypatch.setitem(part.SOURCES, "correctness", "made_up")
    place = place_in(tmp_path)
    monkeypatch.setattr("faulthandler.dump_traceback_later", lambda *_, **__: None)
    assert part.run_part("correctness", place) == 1
    rows = json.loads(place.path.read_text())
    assert [row["state"] for row in rows] == ["failed", "out of memory", "skipped", "passed"]
    assert rows[0]["why"] == "off by 1" and rows[2]["why"] == "needs the package no_such_package"
    assert rows[3]["device"] == "cpu"


def test_what_there_is_no_time_for_is_noted(tmp_path: Path) -> None:
    place = place_in(tmp_path, seconds=10)
    assert place.attempt(lambda: 1, needs=100, check="long") is None
    assert place.attempt(lambda: 1, needs=1, check="short") == 1
    assert place.rows == [{"check": "long", "state": "no time", "needed": 100}]


def test_the_script_writes_what_it_found(tmp_path: Path) -> None:
    done = script("--device", "cpu", "--small", "--parts", "machine", "--out", tmp_path / "gpu", "--seconds", 120)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["parts"]["machine"]["state"] == "done"
    assert found["packages"]["missing"] == []
    limits = next(row for row in found["parts"]["machine"]["rows"] if row["what"] == "limits")
    assert limits["matmul_flops_per_second"]["float32"] > 0
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "GFLOP/s in float32 matrix products" in text and text.strip() in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu.json", "gpu.md"]


def test_a_part_that_has_no_time_is_noted_and_the_next_one_runs(tmp_path: Path) -> None:
    words = ("--device", "cpu", "--small", "--parts", "correctness,recipe", "--seconds", 0.4)
    done = script(*words, "--out", tmp_path / "gpu")
    assert done.returncode == 1, done.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert {name: found["state"] for name, found in parts.items()} == dict.fromkeys(parts, "timed out")
    assert list(parts) == ["correctness", "recipe"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so_once(tmp_path: Path) -> None:
    done = script("--out", tmp_path / "gpu")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "finds no CUDA GPU here" in done.stderr
    assert script("--parts", "speed").returncode == 2


def test_the_page_shows_what_there_is() -> None:
    spread = {"median": 2e6, "lowest": 1e6, "highest": 3e6, "rounds": [1e6, 2e6, 3e6]}
    trained = {"model": "124M", "batch": 32, "compiled": True, "side": "glassgpt", "context": 1024}
    trained |= {"tokens_per_second": spread, "mfu": {**spread, "median": 0.4, "lowest": 0.39, "highest": 0.41}}
    trained |= {"step_ms": 12.34, "first_steps_seconds": 40.0, "peak_bytes": 2**34}
    left_out = {"model": "124M", "batch": 64, "compiled": True, "state": "no time", "needed": 75.0}
    checks = [
        {"check": "one", "state": "passed", "seconds": 1.0, "gradient": 1.5e-6},
        {"check": "two", "state": "failed", "why": "a | b\nc"},
    ]
    found = {"began": "now", "command": [], "commit": None, "device": "cuda", "small": False, "seconds": 470.0}
    found["parts"] = {
        "correctness": {"state": "failed", "seconds": 30.0, "rows": checks},
        "training": {"state": "timed out", "seconds": 150.0, "rows": [trained, left_out]},
        "machine": {"state": "done", "seconds": 5.0, "rows": []},
    }
    text = page(found)
    assert "| one | passed | gradient 1.5e-06 |" in text
    assert "| two | failed | failed: a \\| b c |" in text
    assert "| 124M | glassgpt, compiled | 32 x 1024 | 2,000,000 (1,000,000 to 3,000,000) |" in text
    assert "40.0 (39.0 to 41.0) % | 12.3 ms | 40.0 s | 16.0 GiB |" in text
    assert "no time: 75 s were needed" in text
    assert "- training: timed out" in text
