"""Execute notebooks from top to bottom and store their outputs in place; a diff shows what changed.

    python notebooks/run.py                                  # all of them: `make notebooks`
    python notebooks/run.py notebooks/1-tokens.ipynb         # one
    python notebooks/run.py --try-exercises --out folder …   # what the tests do

Each notebook has a process of its own, this Python, one thread, an empty folder to be in
and an empty cache.
"""

import argparse
import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

HERE = Path(__file__).parent


def has_tag(cell: NotebookNode, tag: str) -> bool:
    """Whether a cell has this tag."""
    return tag in cell.metadata.get("tags", [])


def source_hash(notebook: NotebookNode) -> str:
    """A short hash of all code: stored with the outputs, it says what they were made of."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def solution_code(cell: NotebookNode) -> str:
    """The Python of a folded solution."""
    return "\n".join(re.findall(r"```python\n(.*?)```", cell.source, re.DOTALL))


def with_solutions(notebook: NotebookNode) -> NotebookNode:
    """The same notebook with each folded solution run as code, then its check again."""
    cells: list[NotebookNode] = []
    check = None
    for cell in notebook.cells:
        cells.append(cell)
        if has_tag(cell, "check"):
            check = cell.source
        if has_tag(cell, "solution"):
            assert check is not None, "a solution stands after its check"
            cells.append(new_code_cell(solution_code(cell)))
            cells.append(new_code_cell(check, metadata={"tags": ["check-of-solution"]}))
    notebook.cells = cells
    return notebook


def execute(notebook: NotebookNode, timeout: int) -> None:
    """Run all cells in a new process and put their outputs in. Raises CellExecutionError."""
    own_python = KernelSpecManager(kernel_dirs=[])  # not another "python3" that Jupyter knows here
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        own = {
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "GLASSGPT_CACHE": f"{folder}/cache",  # nothing found, nothing left behind
        }
        client = NotebookClient(
            notebook,
            km=AsyncKernelManager(kernel_spec_manager=own_python),
            # It would warn of its own connection, which stays on this machine.
            extra_arguments=["--log-level=ERROR"],
            timeout=timeout,
            record_timing=False,
            coalesce_streams=True,  # what is printed in pieces is read in one
            resources={"metadata": {"path": folder}},
        )
        client.execute(env={**os.environ, **own}, cleanup_kc=True)


def tidy(notebook: NotebookNode) -> None:
    """Take off what differs from one execution, or one machine, to the next."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "outputs_of": source_hash(notebook),
    }
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}


def main() -> None:
    """Execute the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "notebooks", nargs="*", type=Path, help="files; left out: all beside this script"
    )
    parser.add_argument(
        "--out", type=Path, help="write to this folder, and leave the originals as they are"
    )
    parser.add_argument(
        "--try-exercises",
        action="store_true",
        help="run the folded solutions and their checks, too",
    )
    parser.add_argument(
        "--timeout", type=int, default=600, help="seconds for one cell (default: %(default)s)"
    )
    chosen = parser.parse_args()
    for path in chosen.notebooks or sorted(HERE.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if chosen.try_exercises:
            notebook = with_solutions(notebook)
        execute(notebook, chosen.timeout)
        tidy(notebook)
        nbformat.validate(notebook)
        target = chosen.out / path.name if chosen.out else path
        with target.open("w", encoding="utf-8", newline="\n") as file:
            nbformat.write(notebook, file)
        print(target, file=sys.stderr)


if __name__ == "__main__":
    main()
