"""A run that was stopped goes on as if nothing had happened, to the bit; and what may change on the way."""

import io
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

from glassgpt.data.batches import Batches
from glassgpt.errors import UserError
from glassgpt.recipes import Recipe, TrainingConfig
from glassgpt.runs import load, read_metrics
from glassgpt.training import session
from glassgpt.training.changes import FREE_FIELDS
from glassgpt.training.checkpoints import list_checkpoints, load_newest_checkpoint, save_checkpoint
from glassgpt.training.trainer import Checkpoint, Step, Trainer
from tests.conftest import TEXT
from tests.small_runs import QUIET, Killed, StopAt, comparable, recipe_for, same


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
            raise Killed  # nothing gets to save anything
        return original(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(Killed):
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
        "training": {"learning_rate": 1e12, "grad_clip": 0.0, "log_every": 100, "checkpoint_every": 1},
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
    changes = {"training": {"learning_rate": 1e12, "grad_clip": 0.0, "weight_decay": 1e9, "log_every": 1}}
    with pytest.raises(UserError, match=r"no finite gradient: lower --training.learning-rate"):
        session.train(recipe_for(text_file, **changes), tmp_path / "run", QUIET)


def test_a_run_stopped_before_its_first_checkpoint_begins_again(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(text_file)
    session.train(recipe, tmp_path / "whole", QUIET)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", lambda trainer: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
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


WORSENING = {"max_steps": 500, "eval_every": 2, "patience": 2, "learning_rate": 0.3}  # so high that it soon gets worse


# --- nothing of the result depends on when it was stopped, or saved -----------------------------------------------


def finished(run: Path) -> dict[str, object]:
    """All that a finished run has to show, timings left out."""
    summary = json.loads((run / "summary.json").read_text())
    for name in ("training_seconds", "tokens_per_second"):
        del summary[name]
    last = list_checkpoints(run / "checkpoints")[0]
    files = ("model.safetensors", "samples.txt", f"checkpoints/{last.name}/optimizer.safetensors")
    return {"summary": summary, "metrics": comparable(run)} | {name: (run / name).read_bytes() for name in files}


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"val_fraction": 0.0}},
        {"training": {"checkpoint_every": "0.01s"}},
        {"training": WORSENING},
    ],
    ids=["no validation", "checkpoints by the clock", "patience"],
)
def test_random_stops_leave_no_trace(
    changes: dict, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(text_file, **changes)
    session.train(recipe, tmp_path / "whole", QUIET)
    steps = json.loads((tmp_path / "whole" / "summary.json").read_text())["steps"]
    StopAt(monkeypatch, sorted(random.Random(steps).sample(range(1, steps), 3)))
    done = session.train(recipe, tmp_path / "pieces", QUIET)
    stops = 0
    while not done:
        done = session.resume(tmp_path / "pieces", {}, QUIET)
        stops += 1
    assert stops == 3
    assert finished(tmp_path / "pieces") == finished(tmp_path / "whole")


def test_when_checkpoints_are_saved_changes_nothing_else(text_file: Path, tmp_path: Path) -> None:
    runs = []
    for every in (1, 1000, "0.001s", "1h"):
        runs.append(tmp_path / str(every))
        session.train(recipe_for(text_file, training={"checkpoint_every": every}), runs[-1], QUIET)
    assert all(finished(run) == finished(runs[0]) for run in runs)
    kept = {run.name: [int(path.name[-2:]) for path in list_checkpoints(run / "checkpoints")] for run in runs}
    assert kept == {"1": [30, 29], "1000": [30, 28], "0.001s": [30, 29], "1h": [30, 28]}  # (each evaluation is better)


def test_whatever_a_model_draws_at_random_is_the_same_again(tmp_path: Path) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(20, 20)

        def forward(self, ids: Tensor) -> Tensor:
            noise = random.random() + np.random.random() + torch.rand(())
            return self.table(ids) * (1 + noise)

    ids = np.random.default_rng(0).integers(20, size=500).astype(np.uint8)

    def make() -> Trainer:
        torch.manual_seed(0)
        return Trainer(Noisy(), Batches(ids, 8, 4), TrainingConfig(max_steps=6, device="cpu", eval_every=3))

    whole, first, second = make(), make(), make()
    for _ in whole:
        pass
    for event in first:
        if isinstance(event, Checkpoint):
            save_checkpoint(first, tmp_path, keep=1)
            break
    random.seed(99)
    load_newest_checkpoint(second, tmp_path, pytest.fail)
    assert second.progress.step == 3
    for _ in second:
        pass
    assert same(dict(whole.model.state_dict()), dict(second.model.state_dict()))


def test_a_run_killed_when_its_patience_was_used_up_ends_there(text_file: Path, tmp_path: Path) -> None:
    session.train(recipe_for(text_file, training=WORSENING), tmp_path / "run", QUIET)
    before = finished(tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()  # as if it had been killed before it wrote that
    assert session.resume(tmp_path / "run", {}, QUIET)
    assert finished(tmp_path / "run") == before
    with pytest.raises(UserError, match=r"finished at step \d+: to go further, say so, as in --training.patience 4"):
        session.resume(tmp_path / "run", {}, QUIET)
    session.resume(tmp_path / "run", {"training": {"patience": "3"}}, QUIET)
    assert finished(tmp_path / "run")["summary"]["steps"] > before["summary"]["steps"]  # type: ignore[index]


def test_the_checkpoint_of_the_best_evaluation_is_kept(text_file: Path, tmp_path: Path) -> None:
    changes = {"training": {**WORSENING, "keep_checkpoints": 1, "checkpoint_every": 50}}
    run = tmp_path / "run"
    session.train(recipe_for(text_file, **changes), run, QUIET)
    best = json.loads((run / "summary.json").read_text())["best_step"]
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == [
        f"step-{best + 4:08d}",
        f"step-{best:08d}",
    ]
    kept = run / "checkpoints" / f"step-{best:08d}" / "model.safetensors"
    assert kept.read_bytes() == (run / "model.safetensors").read_bytes()


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_best_weights_that_were_lost_come_back(content: bytes | None, text_file: Path, tmp_path: Path) -> None:
    """Also where they are later ones than the run goes on from, and it goes on otherwise."""
    run = tmp_path / "run"
    session.train(recipe_for(text_file, training=WORSENING), run, QUIET)
    weights = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").unlink()
    if content is not None:
        (run / "model.safetensors").write_bytes(content)
    session.resume(run, {"training": {"patience": "3", "learning_rate": "1e-9", "min_learning_rate": "0"}}, QUIET)
    assert (run / "model.safetensors").read_bytes() == weights


def test_a_checkpoint_from_a_newer_version_is_refused_and_stays(trained_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    file = list_checkpoints(run / "checkpoints")[0] / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 99}), encoding="utf-8")
    with pytest.raises(UserError, match=r"written by a newer glassgpt \(format 99, this one reads \d+\): update it"):
        session.resume(run, {"training": {"max_steps": "20"}}, QUIET)
    assert file.exists()


# --- a changed recipe ----------------------------------------------------------------------------------------------


def said(run: Path, overrides: dict) -> str:
    console = Console(record=True, width=200, file=io.StringIO())
    session.resume(run, overrides, console)
    return console.export_text()


def edit(run: Path, old: str, new: str) -> None:
    file = run / "recipe.toml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_what_changed_is_said_wherever_it_was_changed(trained_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    edit(run, "max_steps = 12", "max_steps = 16")
    edit(run, "log_every = 1", "log_every = 2")
    lines = said(run, {"training": {"checkpoint_every": "5 min", "eval_every": "4"}}).splitlines()
    assert "  training.max_steps 12 -> 16 (allowed)" in lines
    assert "  training.log_every 1 -> 2 (allowed)" in lines
    assert "  training.checkpoint_every none -> 5 min (allowed)" in lines
    assert sum("(allowed)" in line for line in lines) == 3
    # From now on this is how it is.
    assert "(allowed)" not in said(run, {"training": {"max_steps": "20"}}).replace("max_steps 16 -> 20 (allowed)", "")


def test_an_edit_that_makes_it_another_run_is_refused(trained_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    edit(run, "n_layer = 2", "n_layer = 3")
    edit(run, "batch_size = 4", "batch_size = 8")
    with pytest.raises(
        UserError, match=r"model.n_layer 2 -> 3, training.batch_size 4 -> 8: cannot change in a run that goes on"
    ):
        session.resume(run, {"training": {"max_steps": "20", "learning_rate": "0.01"}}, QUIET)
    edit(run, "n_layer = 3", "n_layer = 2")
    edit(run, "batch_size = 8", "batch_size = 4")
    assert session.resume(run, {"training": {"max_steps": "20", "learning_rate": "0.01"}}, QUIET)


def test_the_fields_that_may_change_are_fields() -> None:
    for name in FREE_FIELDS:
        section, _, field = name.partition(".")
        annotation = Recipe.model_fields[section].annotation
        assert not field or field in annotation.model_fields  # type: ignore[union-attr]
