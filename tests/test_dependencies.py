"""The lock of the development dependencies is whole and of what pyproject.toml asks for, and make installs it."""

import os
import re
import runpy
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
PINS = [line.removesuffix(" \\") for line in LOCK.splitlines() if re.match(r"\w", line)]
LEFT_OUT = runpy.run_path(str(ROOT / "requirements" / "lock.py"))["LEFT_OUT"]


def wanted() -> list[Requirement]:
    """What a developer's environment has, without what is installed beside the lock."""
    extras = PROJECT["project"]["optional-dependencies"]
    lines = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    lines += [line for extra in ("dev", "data", "tensorboard", "wandb") for line in extras[extra]]
    found = [Requirement(line) for line in lines]
    return [one for one in found if one.name != "glassgpt" and not LEFT_OUT.fullmatch(one.name)]


def pinned(python: str, system: str) -> dict[str, str]:
    """The version of each package for a Python and system: one at the most."""
    there = {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": system,
        "implementation_name": "cpython",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
    }
    found: dict[str, str] = {}
    for pin in map(Requirement, PINS):
        if pin.marker is None or pin.marker.evaluate(there):
            assert pin.name not in found, f"{pin.name} twice"
            found[pin.name] = str(pin.specifier).removeprefix("==")
    return found


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_all_that_is_asked_for_is_locked(python: str, system: str) -> None:
    found = pinned(python, system)
    missing = [str(one) for one in wanted() if not one.specifier.contains(found.get(one.name, "0"), prereleases=True)]
    assert not missing, "run `make lock`"


def test_every_package_has_hashes_and_nothing_says_where_from() -> None:
    entries = re.split(r"^(?=\w)", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) == len(PINS) > 100
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry) for entry in entries)
    assert not re.search(r"://|--(index|extra|find|trusted)|\bfile:|@", LOCK)
    assert not [pin for pin in PINS if LEFT_OUT.fullmatch(pin.partition("==")[0])]


def test_every_user_dependency_has_a_lower_bound_to_test() -> None:
    bounds = runpy.run_path(str(ROOT / "requirements" / "oldest.py"))["lower_bounds"]()
    extras = PROJECT["project"]["optional-dependencies"]
    lines = [*PROJECT["project"]["dependencies"], *(line for name in extras if name != "dev" for line in extras[name])]
    assert bounds.keys() == {Requirement(line).name for line in lines} - {"glassgpt"}


# --- make --------------------------------------------------------------------------------------------------------

PYTHON = """\
#!/bin/sh
echo "$@" >> "$LOG"
case "$@" in *pip*"$FAIL"*) exit 1;; esac
"""


class Make:
    """make in an environment whose Python only notes what it is asked for."""

    def __init__(self, folder: Path):
        self.venv, self.log = folder / "venv", folder / "log"
        (self.venv / "bin").mkdir(parents=True)
        for name in ("python", "glassgpt"):
            (self.venv / "bin" / name).write_text(PYTHON, encoding="utf-8")
            (self.venv / "bin" / name).chmod(0o755)
        (self.venv / ".created").touch()

    def __call__(self, target: str, fail: str = "nothing does") -> tuple[int, list[str]]:
        """Its exit code, and what Python was called with."""
        self.log.write_text("", encoding="utf-8")
        own = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        words = ["make", "--silent", target, f"VENV={self.venv}"]
        done = subprocess.run(
            words, cwd=ROOT, env=own | {"LOG": str(self.log), "FAIL": fail}, capture_output=True, check=False
        )
        return done.returncode, self.log.read_text(encoding="utf-8").splitlines()

    @property
    def stamps(self) -> set[str]:
        return {path.name for path in self.venv.glob(".installed*")}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    if not shutil.which("make") or os.name == "nt":
        pytest.skip("needs make and sh")
    return Make(tmp_path)


def test_make_installs_once_and_from_the_lock(make: Make) -> None:
    code, (locked, project, tests) = make("test")
    assert code == 0
    assert "--no-deps --requirement requirements/dev.txt" in locked
    assert project.endswith("--no-build-isolation --editable .")
    assert tests.startswith("-m pytest")
    assert make("test") == (0, [tests])
    assert len(make("demo")[1]) == 1  # what tests need is more than what the demo needs


@pytest.mark.parametrize(("target", "fail"), [("test", "requirement"), ("test", "editable"), ("demo", "editable")])
def test_make_does_not_trust_an_installation_that_was_broken_off(make: Make, target: str, fail: str) -> None:
    assert make("demo")[0] == 0
    assert make.stamps == {".installed"}
    (make.venv / ".created").touch()  # as after a change: all is to be installed again
    code, calls = make(target, fail)
    assert code == 2 and fail in calls[-1]
    assert not make.stamps, "packages may be missing by now"
    code, calls = make("demo")
    assert code == 0 and "pip" in calls[0]
