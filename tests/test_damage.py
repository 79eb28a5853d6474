"""What must not be lost, nor trusted, when something is damaged, missing, in the way, or another's."""

from pathlib import Path

import pytest

from glassgpt.errors import UserError
from glassgpt.training import session
from tests.conftest import SMALL, call
from tests.small_runs import QUIET, recipe_for

# --- folders that hold something -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tokenizer.json/", "checkpoints/old/", "recipe.toml/", "thesis.txt", ".notes.tmp"])
def test_a_folder_that_holds_something_is_left_as_it_is(
    name: str, text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / ".lock").touch()
    (mine / name).mkdir(parents=True) if name.endswith("/") else (mine / name).write_text("mine", encoding="utf-8")
    before = sorted(mine.rglob("*"))
    assert call("train", "--data", text_file, "--out", mine, *SMALL) == 2
    assert sorted(mine.rglob("*")) == before
    assert "choose another with --out" in capsys.readouterr().err


@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_cannot_be_made_leaves_nothing(
    there: bool, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    if there:
        run.mkdir()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glassgpt.runs.save_recipe", fail)
    with pytest.raises(UserError, match=r"run: cannot be written: No space left on device: choose another with --out"):
        session.train(recipe_for(text_file), run, QUIET)
    assert run.exists() == there
    assert not there or not list(run.iterdir())


def test_a_run_that_cannot_be_made_takes_nothing_along(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even what came into the folder meanwhile."""
    run = tmp_path / "run"

    def fail(*_: object) -> None:
        (run / "thesis.txt").write_text("mine", encoding="utf-8")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glassgpt.runs.save_recipe", fail)
    with pytest.raises(UserError, match=r"cannot be written"):
        session.train(recipe_for(text_file), run, QUIET)
    assert [path.name for path in run.iterdir()] == ["thesis.txt"]
