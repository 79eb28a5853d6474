"""A run that was stopped goes on as if nothing had happened, to the bit; and what may change on the way."""

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file

from glassgpt.errors import UserError
from glassgpt.recipes import Recipe
from glassgpt.runs import load, read_metrics
from glassgpt.training import session
from glassgpt.training.checkpoints import list_checkpoints, save_checkpoint
from glassgpt.training.trainer import Step, Trainer
from tests.conftest import TEXT
from tests.small_runs import QUIET, StopAt, comparable, recipe_for, same


@pytest.mark.parametrize("stops", [[1], [5], [13, 14], [3, 20, 29]], ids=str)
@pytest.mark.parametrize(
    "changes",
    [{}, {"data": {"order": "epochs"}}, {"training": {"schedule": "wsd", "precision": "bfloat16"}}],
    ids=["windows", "epochs", "bfloat16"],
)
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(
    stops: list[int], changes: dict, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(text_file, **changes)
    assert session.train(recipe, tmp_path / "whole", QUIET)
    stop = StopAt(monkeypatch, stops)
    assert not session.train(recipe, tmp_path / "pieces", QUIET)
    while not session.resume(tmp_path / "pieces", {}, QUIET):
        pass
    assert not stop.steps
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    for file in ("model.safetensors", "checkpoints/step-00000030/model.safetensors"):
        assert same(load_file(whole / file), load_file(pieces / file)), file
    optimizers = [load_file(run / "checkpoints/step-00000030/optimizer.safetensors") for run in (whole, pieces)]
    assert same(*optimizers)
    assert comparable(whole) == comparable(pieces)
    assert (whole / "samples.txt").read_bytes() == (pieces / "samples.txt").read_bytes()
    summaries = [json.loads((run / "summary.json").read_text()) for run in (whole, pieces)]
    for summary in summaries:
        del summary["training_seconds"], summary["tokens_per_second"]
    assert summaries[0] == summaries[1]


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(text_file)
    session.train(recipe, tmp_path / "whole", QUIET)
    original = Trainer._step

    def step(trainer: Trainer) -> Step:
        if trainer.progress.step == 18:
            raise MemoryError  # nothing gets to save anything
        return original(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(MemoryError):
            session.train(recipe, tmp_path / "killed", QUIET)
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 18, "tok')  # a line cut short
    with (tmp_path / "killed" / "samples.txt").open("ab") as samples:
        samples.write("----- step 18 -----\né".encode()[:-1])  # a character cut in two
    (tmp_path / "killed" / ".model.safetensors.7.tmp").touch()
    (tmp_path / "killed" / "checkpoints" / ".step-00000018.7.tmp").mkdir()
    assert session.resume(tmp_path / "killed", {}, QUIET)
    assert comparable(tmp_path / "whole") == comparable(tmp_path / "killed")
    best = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("whole", "killed")]
    assert best[0] == best[1]
    written = [(tmp_path / run / "samples.txt").read_bytes() for run in ("whole", "killed")]
    assert written[0] == written[1]
    assert not list((tmp_path / "killed").rglob("*.tmp"))


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    StopAt(monkeypatch, [17])
    session.train(recipe_for(text_file), tmp_path / "run", QUIET)
    newest = tmp_path / "run" / "checkpoints" / "step-00000017" / "optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    console = Console(record=True, width=200, file=io.StringIO())
    assert session.resume(tmp_path / "run", {}, console)
    said = console.export_text()
    assert "damaged" in said
    assert "resuming" in said
    assert "at step 15" in said


def test_a_checkpoint_is_saved_after_all_that_it_vouches_for(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def save(trainer: Trainer, folder: Path, keep: int, recipe: Recipe) -> Path:
        run, step = folder.parent, trainer.progress.step
        rows = read_metrics(run / "metrics.jsonl")
        logged = [row["step"] for row in rows if row["step"] <= step]
        assert logged[-1] >= step - step % 2
        if step % 7 == 0:
            assert rows[-1]["val_loss"] is not None
            assert f"step {step} -----" in (run / "samples.txt").read_text()
            assert (run / "model.safetensors").exists()
        seen.append(step)
        return save_checkpoint(trainer, folder, keep, recipe)

    monkeypatch.setattr("glassgpt.training.listeners.save_checkpoint", save)
    session.train(recipe_for(text_file, training={"checkpoint_every": 7}), tmp_path / "run", QUIET)
    assert seen == [7, 14, 21, 28, 30]


def test_keeping_one_checkpoint_never_loses_the_one_just_saved(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(text_file, training={"keep_checkpoints": 2})
    with monkeypatch.context() as patch:
        StopAt(patch, [12])
        session.train(recipe, tmp_path / "run", QUIET)
    checkpoints = tmp_path / "run" / "checkpoints"
    assert [path.name for path in list_checkpoints(checkpoints)] == ["step-00000012", "step-00000010", "step-00000007"]
    (checkpoints / "step-00000012" / "state.json").write_text("{", encoding="utf-8")
    with monkeypatch.context() as patch:
        StopAt(patch, [11])
        session.resume(tmp_path / "run", {"training": {"keep_checkpoints": "1"}}, QUIET)
    assert [path.name for path in list_checkpoints(checkpoints)] == ["step-00000011", "step-00000007"]
    assert session.resume(tmp_path / "run", {}, QUIET)


def test_a_run_without_validation_that_diverges_saves_nothing_broken(text_file: Path, tmp_path: Path) -> None:
    changes = {
        "data": {"val_fraction": 0.0},
        "training": {"learning_rate": 1e30, "grad_clip": 0.0, "log_every": 100, "checkpoint_every": 1},
    }
    with pytest.raises(UserError, match=r"had no finite gradient|weight became inf|output is not a number"):
        session.train(recipe_for(text_file, **changes), tmp_path / "run", QUIET)
    assert not (tmp_path / "run" / "summary.json").exists()
    for file in (tmp_path / "run").rglob("model.safetensors"):
        assert all(weight.isfinite().all() for weight in load_file(file).values())


def test_a_moved_text_is_found_from_anywhere(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "moved.txt").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    changes = {"data": {"source": ["moved.txt"]}, "training": {"max_steps": "14"}}
    session.resume(tmp_path / "run", changes, QUIET)
    assert load(tmp_path / "run").recipe.data.source == [str((tmp_path / "moved.txt").resolve())]


def test_a_run_that_used_up_its_time_goes_on_when_told_to(text_file: Path, tmp_path: Path) -> None:
    recipe = recipe_for(text_file, training={"max_steps": 6, "max_seconds": 1e-9, "eval_every": 100})
    steps = []
    for again in (False, True, True):
        session.resume(tmp_path / "run", {}, QUIET) if again else session.train(recipe, tmp_path / "run", QUIET)
        steps.append(json.loads((tmp_path / "run" / "summary.json").read_text())["steps"])
    assert steps == [2, 4, 6]


def test_more_steps_may_be_asked_for(trained_run: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    with pytest.raises(UserError, match=r"finished at step 12.*--training.max-steps 24"):
        session.resume(tmp_path / "run", {}, QUIET)
    assert session.resume(tmp_path / "run", {"training": {"max_steps": "16"}}, QUIET)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 17))
    assert load(tmp_path / "run").recipe.training.max_steps == 16


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [("model", "n_layer", 3), ("training", "seed", 5), ("training", "batch_size", 5), ("data", "order", "epochs")],
)
def test_what_makes_another_run_cannot_change(section: str, field: str, value: object, trained_run: Path) -> None:
    before = (trained_run / "recipe.toml").read_bytes()
    with pytest.raises(UserError, match=rf"{section}\.{field} \w+ -> {value}: cannot change"):
        session.resume(trained_run, {section: {field: value}}, QUIET)
    assert (trained_run / "recipe.toml").read_bytes() == before


def test_a_loss_that_is_no_number_ends_the_run_with_advice(text_file: Path, tmp_path: Path) -> None:
    changes = {"training": {"learning_rate": 1e30, "grad_clip": 0.0, "weight_decay": 1e9, "log_every": 1}}
    with pytest.raises(UserError, match=r"no finite gradient: lower --training.learning-rate"):
        session.train(recipe_for(text_file, **changes), tmp_path / "run", QUIET)


def test_a_run_stopped_before_its_first_checkpoint_begins_again(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(text_file)
    session.train(recipe, tmp_path / "whole", QUIET)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", lambda trainer: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            session.train(recipe, tmp_path / "killed", QUIET)
    assert session.resume(tmp_path / "killed", {}, QUIET)
    assert comparable(tmp_path / "whole") == comparable(tmp_path / "killed")


def test_a_run_that_ended_without_its_summary_gets_one(trained_run: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    assert session.resume(tmp_path / "run", {}, QUIET)
    summaries = [json.loads((run / "summary.json").read_text()) for run in (trained_run, tmp_path / "run")]
    assert summaries[0]["loss"] == summaries[1]["loss"]
    assert comparable(trained_run) == comparable(tmp_path / "run")
