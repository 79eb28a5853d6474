"""What must not be lost, nor trusted, when something is damaged, missing, in the way, or another's."""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors import SafetensorError

from glassgpt.data.batches import Batches
from glassgpt.errors import UserError
from glassgpt.model import ModelConfig, make_model
from glassgpt.recipes import TrainingConfig
from glassgpt.training import session
from glassgpt.training.checkpoints import TENSOR_FILES, list_checkpoints
from glassgpt.training.trainer import Step, Trainer
from tests.conftest import SMALL, call
from tests.small_runs import QUIET, Killed, StopAt, comparable, recipe_for, same

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

    monkeypatch.setattr("glassgpt.runs.folder.save_recipe", fail)
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

    monkeypatch.setattr("glassgpt.runs.folder.save_recipe", fail)
    with pytest.raises(UserError, match=r"cannot be written"):
        session.train(recipe_for(text_file), run, QUIET)
    assert [path.name for path in run.iterdir()] == ["thesis.txt"]


# --- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped at step 17, with checkpoints of steps 17, 15 and 14 (the best)."""
    with monkeypatch.context() as patch:
        StopAt(patch, [17])
        assert not session.train(recipe_for(text_file), tmp_path / "run", QUIET)
    return tmp_path / "run"


def said(run: Path) -> str:
    console = Console(record=True, width=500, file=io.StringIO())
    assert session.resume(run, {}, console)
    return console.export_text()


def flip(file: Path) -> None:
    """Change a byte of the last tensor, which stays a number."""
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", TENSOR_FILES)
def test_a_flipped_bit_in_the_newest_checkpoint_is_noticed(name: str, text_file: Path, stopped: Path) -> None:
    newest, before = list_checkpoints(stopped / "checkpoints")[:2]
    flip(newest / name)
    shown = said(stopped)
    assert f"{newest / name}: damaged: its SHA-256 differs: trying the checkpoint before it" in shown
    assert f"at step {int(before.name[5:])}" in shown
    session.train(recipe_for(text_file), stopped.parent / "whole", QUIET)
    assert comparable(stopped) == comparable(stopped.parent / "whole")


def test_a_checkpoint_from_before_digests_is_read(stopped: Path) -> None:
    file = list_checkpoints(stopped / "checkpoints")[0] / "state.json"
    state = json.loads(file.read_text(encoding="utf-8"))
    del state["sha256"]
    file.write_text(json.dumps(state), encoding="utf-8")
    assert "at step 17" in said(stopped)


def test_good_weights_are_not_replaced_by_a_damaged_best_checkpoint(stopped: Path) -> None:
    weights = (stopped / "model.safetensors").read_bytes()
    flip(stopped / "checkpoints" / "step-00000014" / "model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        StopAt(patch, [18])
        assert not session.resume(stopped, {}, QUIET)
    assert (stopped / "model.safetensors").read_bytes() == weights


def test_a_lone_damaged_checkpoint_says_how_to_begin_anew(
    stopped: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for checkpoint in list_checkpoints(stopped / "checkpoints"):
        flip(checkpoint / "model.safetensors")
    assert call("train", "--resume", stopped) == 2
    error = capsys.readouterr().err
    assert "all checkpoints are damaged: bring back the old files, or begin a new run: glassgpt train " in error
    assert len(list_checkpoints(stopped / "checkpoints")) == 3
    monkeypatch.chdir(stopped.parent)
    assert call(*shlex.split(error.partition("new run: glassgpt ")[2])) == 0
    assert (stopped.parent / "runs" / "run" / "summary.json").exists()


@pytest.mark.parametrize("name", ["state.json", *TENSOR_FILES])
def test_a_read_error_removes_nothing(name: str, stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next time, the disk may answer again."""
    newest = list_checkpoints(stopped / "checkpoints")[0]
    original = os.open

    def fail(path: Any, flags: int, *args: Any, **named: Any) -> int:
        if path == newest / name and not flags & os.O_RDWR:
            raise OSError(5, "Input/output error")
        return original(path, flags, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(UserError, match=rf"{name}: .*Input/output error$"):
            session.resume(stopped, {}, QUIET)
    assert "at step 17" in said(stopped)


def test_an_error_within_safetensors_is_no_damage(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise SafetensorError(f"Error opening {path}: Too many open files (os error 24)")

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.load_file", fail)
        with pytest.raises(UserError, match=r"model.safetensors: cannot be read: Too many open files$"):
            session.resume(stopped, {}, QUIET)
    assert "at step 17" in said(stopped)


def tiny_trainer(**settings: object) -> Trainer:
    ids = np.random.default_rng(0).integers(20, size=500).astype(np.uint8)
    model = make_model(ModelConfig(vocab_size=20, block_size=8, n_layer=1, n_head=2, n_embd=16))
    return Trainer(model, Batches(ids, 8, 4), TrainingConfig.parse({"max_steps": 2, "device": "cpu", **settings}))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_optimizers_tensor_of_another_shape_is_not_stretched(optimizer: str) -> None:
    trainer = tiny_trainer(optimizer=optimizer)
    before = {name: tensor.clone() for name, tensor in trainer.optimizer.state().items()}
    for name, tensor in before.items():
        if tensor.dim():
            smaller = {other: torch.ones_like(value) for other, value in before.items()} | {name: torch.ones(1)}
            with pytest.raises(ValueError, match="has another shape"):
                trainer.optimizer.load_state(smaller)
            assert same(before, trainer.optimizer.state())


def test_a_run_goes_on_in_float16_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU; the scaler itself is there on a CPU, too."""
    exact = tiny_trainer()
    monkeypatch.setattr("glassgpt.training.trainer.choose_precision", lambda *_: torch.float16)
    half = tiny_trainer()
    half.load_state(*exact.state())
    assert half._scaler.is_enabled() and half._scaler.get_scale() == 65536.0
    exact.load_state(*half.state())
    half._scaler.scale(torch.ones(1))  # makes its tensors
    half._scaler.update(8.0)
    again = tiny_trainer()
    again.load_state(*half.state())
    assert again._scaler.get_scale() == 8.0


# --- what is missing, or another's ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", ["the folder", "what is in it"])
def test_a_run_without_its_checkpoints_is_not_begun_again(rest: str, stopped: Path) -> None:
    shutil.rmtree(stopped / "checkpoints")
    if rest == "what is in it":
        (stopped / "checkpoints").mkdir()
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"run/checkpoints: the checkpoints are gone: .* glassgpt train .*recipe.toml$"):
        session.resume(stopped, {}, QUIET)
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


def test_a_run_killed_between_its_first_weights_and_its_first_checkpoint_begins_again(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(text_file, training={"checkpoint_every": 100})
    session.train(recipe, tmp_path / "whole", QUIET)

    def fail(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("glassgpt.training.listeners.save_checkpoint", fail)
        with pytest.raises(Killed):
            session.train(recipe, tmp_path / "killed", QUIET)
    assert (tmp_path / "killed" / "model.safetensors").exists()
    assert session.resume(tmp_path / "killed", {}, QUIET)
    assert comparable(tmp_path / "whole") == comparable(tmp_path / "killed")


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps folders in which a file is open")
@pytest.mark.parametrize("step", [3, 7, 10])
@pytest.mark.parametrize("removed", [False, True])
def test_a_new_run_under_the_old_name_is_left_alone(
    step: int, removed: bool, trained_run: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, original = tmp_path / "run", Trainer._step
    before: dict[Path, bytes] = {}

    def replace(self: Trainer) -> Step:
        event = original(self)
        if event.step == step:
            shutil.rmtree(run) if removed else run.rename(tmp_path / "elsewhere")
            shutil.copytree(trained_run, run)
            (run / ".lock").touch()
            before.update({path: path.read_bytes() for path in run.rglob("*") if path.is_file()})
        return event

    monkeypatch.setattr(Trainer, "_step", replace)
    with pytest.raises(UserError, match=r"run: the run folder has been moved or removed while training"):
        session.train(recipe_for(text_file), run, QUIET)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


# --- metrics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"5", b"{", b"null", b'{"step": "x"}', b"[" * 100_000])
@pytest.mark.parametrize("track", [[], ["tensorboard"]])
def test_damaged_metrics_that_would_be_cut_do_not_matter(
    damage: bytes, track: list[str], text_file: Path, stopped: Path
) -> None:
    with (stopped / "metrics.jsonl").open("ab") as file:
        file.write(damage + b"\n" + b'{"step": 18}\n' + damage + b"\n")
    session.resume(stopped, {"training": {"track": track}}, QUIET)
    session.train(recipe_for(text_file), stopped.parent / "whole", QUIET)
    assert comparable(stopped) == comparable(stopped.parent / "whole")


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"5", b"{"])
@pytest.mark.parametrize("number", [1, 3, -2])
def test_damaged_metrics_that_are_wanted_are_one_line(number: int, damage: bytes, stopped: Path) -> None:
    file = stopped / "metrics.jsonl"
    lines = file.read_bytes().split(b"\n")
    lines[number - 1 if number > 0 else number] = damage
    file.write_bytes(b"\n".join(lines))
    named = number if number > 0 else len(lines) + number + 1
    with pytest.raises(UserError, match=rf"metrics.jsonl: damaged: line {named}: fix it, or remove the line$"):
        session.resume(stopped, {}, QUIET)
    assert file.read_bytes() == b"\n".join(lines)


# --- output that nobody takes --------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk under standard output, as Linux has it")
def test_a_run_goes_on_when_its_output_meets_a_full_disk(text_file: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "glassgpt", "train", "--data", text_file, "--out", tmp_path / "run", *SMALL]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "run" / "summary.json").exists()
