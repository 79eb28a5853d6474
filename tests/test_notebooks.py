"""The course runs: every notebook from top to bottom, its stored outputs are its own, its exercises can be solved."""

import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import glassgpt
from tests import DEPRECATIONS

nbformat = pytest.importorskip("nbformat")
ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SCRIPT = runpy.run_path(str(FOLDER / "run.py"))
INSTALL = 'import sys\n\nif "google.colab" in sys.modules:\n    %pip install --quiet glassgpt'
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(notebook: Any, tag: str) -> list[Any]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def printed(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def kinds(cell: Any) -> list[list[str]]:
    """What sort of outputs a cell has, without what is in them: a text may differ from one Python to the next."""
    return [[output.output_type, *sorted(output.get("data", {}))] for output in cell.outputs]


@pytest.mark.slow
@each
def test_it_runs_and_its_solutions_are_right(path: Path, tmp_path: Path) -> None:
    words = [sys.executable, str(FOLDER / "run.py"), "--try-exercises", "--out", str(tmp_path), str(path)]
    own = {
        "PYTHONPATH": os.pathsep.join([str(Path(glassgpt.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]),
        # What other packages deprecate is not an output of ours.
        "PYTHONWARNINGS": ",".join(f"ignore::{kind.__name__}" for kind in DEPRECATIONS),
    }
    ran = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **own}, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    executed = read(tmp_path / path.name)
    for cell in code_cells(executed):
        loud = [out for out in cell.outputs if out.output_type == "error" or out.get("name") == "stderr"]
        assert not loud, f"an error or a warning from:\n{cell.source}\n{loud}"
    solved = tagged(executed, "check-of-solution")
    assert len(solved) == len(tagged(executed, "check")) >= 2
    assert all(printed(cell).startswith("Right") for cell in solved)
    assert all(printed(cell).startswith("Not yet") for cell in tagged(executed, "check"))
    ids = {cell.id: kinds(cell) for cell in code_cells(executed)}
    assert all(ids[cell.id] == kinds(cell) for cell in code_cells(read(path))), "run `make notebooks`"


@each
def test_its_outputs_are_stored_and_of_this_very_code(path: Path) -> None:
    notebook = read(path)
    cells = code_cells(notebook)
    assert notebook.metadata["outputs_of"] == SCRIPT["source_hash"](notebook), "run `make notebooks`"
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum("image/png" in out.get("data", {}) for cell in cells for out in cell.outputs) >= 2
    assert path.stat().st_size < 1_000_000


@each
def test_its_first_cell_installs_in_colab_only(path: Path) -> None:
    first = code_cells(read(path))[0]
    assert first.source == INSTALL
    assert first.outputs == []
    assert first.metadata["tags"] == ["install"]


@each
def test_no_output_names_this_machine(path: Path) -> None:
    outputs = json.dumps([cell.outputs for cell in code_cells(read(path))])
    text = re.sub(r'"image/png": "[^"]*"', "", outputs).replace("\\\\", "\\")
    places = [str(Path.home()), str(ROOT), tempfile.gettempdir(), sys.prefix, "/home/", "/tmp/", "/Users/", "C:\\"]
    assert [place for place in places if place in text] == []
    assert not re.search(r"0x[0-9a-f]{8,}", text), "an address in memory differs each time"


@each
def test_its_exercises_have_a_stub_a_check_and_a_folded_solution(path: Path) -> None:
    notebook = read(path)
    order = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", []) if tag != "install"]
    count = len(tagged(notebook, "exercise"))
    assert count >= 2
    assert order == ["exercise", "check", "solution"] * count
    for number, cell in enumerate(tagged(notebook, "exercise"), start=1):
        before = notebook.cells[notebook.cells.index(cell) - 1]
        assert f"### Exercise {number}: " in before.source
        assert cell.source.rstrip().endswith("...")
    for cell in tagged(notebook, "solution"):
        assert cell.source.startswith("<details><summary>Solution</summary>\n\n")
        assert cell.source.rstrip().endswith("</details>")
        assert SCRIPT["solution_code"](cell)


def test_the_readme_lists_them_all() -> None:
    listed = re.findall(r"\((\d-[a-z-]+\.ipynb)\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert listed == [f"{n}-{name}.ipynb" for n, name in enumerate(NAMES, start=1)]
    assert [path.name for path in NOTEBOOKS] == listed


NAMES = ("tokens", "embeddings", "attention", "the-gpt", "training", "generating", "looking-inside")
