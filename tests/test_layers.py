"""Imports go down the list of rooms only, the floor is pure, and nothing heavy loads before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import glassgpt

PACKAGE = Path(glassgpt.__file__).parent
# From the ground up: a room may import from rows above it here, and from its own.
LADDER: list[set[str]] = [
    {"errors"},
    {"paths", "imports"},
    {"reading", "files", "config", "device"},
    {"locks", "tensor_files", "threads"},
    {"waiting", "parallel"},
    {"tokenizers", "model"},
    {"data", "generation"},
    {"recipes"},
    {"runs"},
    {"training"},
    {"interop", "inspection", "bench"},
    {"serving"},
    {"cli"},
    {"__init__", "__main__"},
]
NAMES = set().union(*LADDER)
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def level(name: str) -> int:
    return next(row for row, rooms in enumerate(LADDER) if name in rooms)


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [
                f"{node.module}.{alias.name}" if node.module == "glassgpt" else node.module for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = (name or "").split(".")
            if parts[0] == "glassgpt" and len(parts) > 1 and parts[1] in NAMES:
                found.add(parts[1])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return  # the front door names rooms for type checkers and loads them when they are asked for
    for other in imported_rooms(path) - {here}:
        assert level(other) < level(here), f"{here} must not import {other}"


@pytest.mark.parametrize("name", ["tokenizers", "model.config", "model.sizing", "data.config", "recipes", "cli.main"])
def test_loads_without_torch(name: str) -> None:
    program = f"import sys, glassgpt.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["recipes"], ["info", "gpt2"]])
def test_these_commands_do_without_torch(words: list[str]) -> None:
    program = (
        f"import sys; from glassgpt.cli.main import run; run({words!r}); "
        "sys.exit(bool({'torch', 'matplotlib', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_importing_the_package_does_nothing() -> None:
    program = (
        "import logging, sys; before = list(logging.root.handlers); import glassgpt; "
        "heavy = {'torch', 'numpy', 'pydantic', 'rich', 'matplotlib'} & set(sys.modules); "
        "sys.exit(bool(heavy) or logging.root.handlers != before)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_files_can_be_read_in_one_sitting() -> None:
    long = {str(path): n for path in MODULES if (n := len(path.read_text(encoding="utf-8").splitlines())) > 300}
    assert not long
