"""The README keeps its word: its commands parse, its Python runs, its tables and trees name what is there."""

import re
from pathlib import Path

import pytest

import glassgpt
from glassgpt.cli.main import make_app
from glassgpt.cli.overrides import take_overrides
from glassgpt.recipes import load_recipe, recipe_names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("glassgpt ")
]


def split(line: str) -> list[str]:
    import shlex

    return shlex.split(line)[1:]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("default", "default-2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "recipe.toml").touch()
    words, overrides = take_overrides(split(line))
    _, bound, _ = make_app().parse_args(words, exit_on_error=False, print_error=False)
    if words[0] == "train" and bound.args:
        load_recipe(bound.args[0], overrides)


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_python_runs(trained_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = python_blocks()
    assert len(blocks) == 3
    for block in blocks:
        program = block.replace('"runs/default"', repr(str(trained_run))).replace('"The "', '"the "')
        exec(compile(program, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "'blocks.0.weights': (1, " in printed and "'blocks.0.residual': (1, 4, " in printed
    assert "Step(step=100" in printed


def test_the_table_of_recipes_is_complete() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", README, re.MULTILINE)
    assert sorted(rows) == recipe_names()


def test_the_rooms_are_those_that_are_there() -> None:
    package = Path(glassgpt.__file__).parent
    rooms = {path.name for path in package.iterdir() if not path.name.startswith("_") and path.name != "py.typed"}
    section = README[README.index("## The house") :]
    named = {name.rstrip("/") for name in re.findall(r"`([a-z_]+(?:/|\.py))`", section)}
    assert rooms == named


def test_every_link_leads_somewhere() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert target.startswith("http") or (document.parent / target).exists(), f"{document.name}: {target}"
