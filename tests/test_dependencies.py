"""The lock of the development dependencies is whole, and is of what pyproject.toml asks for."""

import re
import runpy
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
