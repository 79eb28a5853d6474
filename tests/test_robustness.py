"""What a machine does to a training run: kills, signals, full disks, folders that vanish, numbers that overflow."""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from glassgpt.data.batches import Batches
from glassgpt.errors import UserError
from glassgpt.model import ModelConfig, make_model
from glassgpt.recipes import TrainingConfig, load_recipe
from glassgpt.runs import read_metrics
from glassgpt.training import session, trainer
from glassgpt.training.checkpoints import list_checkpoints
from glassgpt.training.loss import summed_loss
from glassgpt.training.trainer import Step, Trainer
from tests.conftest import SMALL, call
from tests.small_runs import QUIET, StopAt, comparable, recipe_for, same

# --- kills and signals -------------------------------------------------------------------------------------------


def test_a_second_signal_ends_it_at_once(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_for(text_file)
    session.train(recipe, tmp_path / "whole", QUIET)
    with monkeypatch.context() as patch:
        StopAt(patch, [12])
        StopAt(patch, [12])
        with pytest.raises(KeyboardInterrupt):
            session.train(recipe, tmp_path / "run", Console(width=200))
    shown = capsys.readouterr().out
    assert "stopped at once, back to the last checkpoint" in shown
    assert f"glassgpt train --resume {tmp_path / 'run'}" in shown.replace("\n", "")
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[0].name == "step-00000010"
    assert session.resume(tmp_path / "run", {}, QUIET)
    assert comparable(tmp_path / "run") == comparable(tmp_path / "whole")


def test_a_run_whose_making_was_killed_can_be_made(text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / ".lock").touch()
    (run / "tokenizer.json").write_text("{", encoding="utf-8")
    assert session.train(recipe_for(text_file, training={"max_steps": 2}), run, QUIET)
    assert not (run / ".lock").exists()


# --- one trainer at a time ---------------------------------------------------------------------------------------


def test_two_trainers_cannot_share_a_run(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    program = (
        f"from glassgpt.runs import RunFolder\nwith RunFolder({str(run)!r}).locked():\n  print('held', flush=True)\n"
        "  input()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert call("train", "--resume", run, "--training.max-steps", 14) == 2
        assert capsys.readouterr().err == (
            f"glassgpt: {run}: another process is training in it: wait for it, or stop it first\n"
        )
        assert {path: path.read_bytes() for path in before} == before
        other.kill()
    assert call("train", "--resume", run, "--training.max-steps", 14) == 0  # what the killed one left holds nothing
    assert not (run / ".lock").exists()


# --- disks and folders -------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="limits the size of files as POSIX can")
def test_a_disk_that_takes_no_more_is_one_line(text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("train", "--data", text_file, "--out", run, *SMALL) == 0
    newest = list_checkpoints(run / "checkpoints")[0]
    before = {path: path.read_bytes() for path in newest.iterdir()}
    limit = (newest / "optimizer.safetensors").stat().st_size - 1  # the model's weights still fit
    program = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"from glassgpt.cli.main import main; main(['train', '--resume', {str(run)!r}, '--training.max-steps', '16'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "File too large" in done.stderr
    assert "what was saved before is as it was" in done.stderr
    assert {path: path.read_bytes() for path in newest.iterdir()} == before
    assert not list(run.rglob(".*"))
    assert call("train", "--resume", run) == 0
    assert [row["step"] for row in read_metrics(run / "metrics.jsonl")] == list(range(1, 17))


def test_a_line_of_metrics_that_does_not_fit_is_one_line(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(text_file)
    session.train(recipe, tmp_path / "whole", QUIET)
    original = os.fsync
    with monkeypatch.context() as patch:
        calls: list[int] = []

        def fsync(handle: int) -> None:
            calls.append(handle)
            if len(calls) > 60:
                raise OSError(28, "No space left on device")
            original(handle)

        patch.setattr(os, "fsync", fsync)
        with pytest.raises(UserError, match=r"run: No space left on device: what was saved before is as it was"):
            session.train(recipe, tmp_path / "run", QUIET)
    assert session.resume(tmp_path / "run", {}, QUIET)
    assert comparable(tmp_path / "run") == comparable(tmp_path / "whole")


@pytest.mark.skipif(os.name == "nt", reason="a folder that may not be written, as POSIX has it")
def test_a_folder_that_may_not_be_written_is_one_line(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory(prefix="glassgpt-tests-") as folder:
        run = Path(folder) / "run"
        shutil.copytree(trained_run, run)
        Path(folder).chmod(0o755)
        run.chmod(0o555)
        who = os.geteuid()
        if who == 0:  # who may write anywhere
            os.seteuid(65534)
        try:
            assert call("train", "--resume", run, "--training.max-steps", 14) == 2
        finally:
            os.seteuid(who)
            run.chmod(0o755)
    error = capsys.readouterr().err
    assert error == f"glassgpt: {run}: cannot be written: Permission denied: make it writable, or copy it\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps folders in which a file is open")
@pytest.mark.parametrize("step", [3, 7, 10])
def test_a_folder_that_vanishes_is_one_line(
    step: int, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before an evaluation, before a checkpoint, or with neither: nothing is put where it was."""
    original = Trainer._step

    def take_away(self: Trainer) -> Step:
        event = original(self)
        if event.step == step:
            (tmp_path / "run").rename(tmp_path / "elsewhere")
        return event

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", take_away)
        with pytest.raises(UserError, match=r"run: the run folder has been moved or removed while training"):
            session.train(recipe_for(text_file), tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()
    assert session.resume(tmp_path / "elsewhere", {}, QUIET)


# --- numbers that overflow ---------------------------------------------------------------------------------------


def break_losses(patch: pytest.MonkeyPatch, broken: Callable[[int], bool], by: float = math.nan) -> None:
    """Let the losses of some steps (by their numbers, from 1) be no numbers."""
    original = Trainer._step

    def step(self: Trainer) -> Step:
        number = self.progress.step + 1
        gain = by if broken(number) else 1.0
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(trainer, "summed_loss", lambda logits, targets: summed_loss(logits, targets) * gain)
            return original(self)

    patch.setattr(Trainer, "_step", step)


def tiny_trainer(**settings: object) -> Trainer:
    torch.manual_seed(0)
    ids = np.random.default_rng(0).integers(20, size=500).astype(np.uint8)
    model = make_model(ModelConfig(vocab_size=20, block_size=8, n_layer=1, n_head=2, n_embd=16, dropout=0.1))
    config = TrainingConfig.parse({"max_steps": 8, "device": "cpu", "batch_size": 4, **settings})
    return Trainer(model, Batches(ids, 8, 4), config)


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


@pytest.mark.parametrize("by", [math.nan, math.inf])
def test_a_step_without_a_finite_loss_changes_nothing(by: float, monkeypatch: pytest.MonkeyPatch) -> None:
    break_losses(monkeypatch, lambda step: step in (3, 4, 6), by)
    training = tiny_trainer()
    before: list[dict[str, Tensor]] = []
    skipped = []
    for event in training:
        if isinstance(event, Step):
            skipped.append(event.skipped)
            now = [copied(state) for state in training.state()[:2]]
            if event.step in (3, 4, 6):
                assert all(same(*pair) for pair in zip(before, now, strict=True))
            elif before:
                assert not same(before[0], now[0])
            before = now
    assert skipped == [0, 0, 1, 2, 2, 3, 3, 3]
    assert training.progress.skipped_in_a_row == 0
    assert all(tensor.isfinite().all() for tensor in before[0].values())


def test_a_step_without_a_finite_gradient_changes_nothing() -> None:
    """The loss may be fine all the same."""
    training = tiny_trainer(max_steps=2, checkpoint_every=1)
    weight = next(training.model.parameters())
    handle = weight.register_hook(lambda gradient: gradient * math.inf)
    before = copied(training.model.state_dict())
    steps = iter(training)
    first = next(steps)
    assert isinstance(first, Step) and first.loss.isfinite() and first.skipped == 1
    assert same(before, dict(training.model.state_dict()))
    handle.remove()
    kinds = [(type(event).__name__, event.step) for event in steps]
    assert kinds == [("Step", 2), ("Pause", 2), ("Checkpoint", 2)]  # none after the step that was skipped
    assert not same(before, dict(training.model.state_dict()))


def test_too_many_in_a_row_end_it() -> None:
    training = tiny_trainer(max_skipped_steps=3)
    next(training.model.parameters()).register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(UserError, match=r"^3 steps in a row, up to 3, had no finite gradient: lower --training.learn"):
        list(training)


def test_a_run_tells_of_skipped_steps_and_resumes_among_them(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    break_losses(monkeypatch, lambda step: step in (9, 10, 11, 20))
    recipe = recipe_for(text_file, training={"log_every": 1})
    assert session.train(recipe, tmp_path / "whole", Console(width=200))
    assert "30 steps (4 skipped)" in capsys.readouterr().out
    StopAt(monkeypatch, [10])
    assert not session.train(recipe, tmp_path / "run", QUIET)
    assert session.resume(tmp_path / "run", {}, QUIET)
    rows = comparable(tmp_path / "run")
    assert rows == comparable(tmp_path / "whole")
    assert [row["step"] for row in rows if row["train_loss"] is None] == [9, 10, 11, 20]
    assert [row["skipped"] for row in rows if row["step"] in (8, 9, 11, 12, 30)] == [0, 1, 3, 3, 4]
    for run in ("whole", "run"):
        assert json.loads((tmp_path / run / "summary.json").read_text())["skipped_steps"] == 4
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("whole", "run")]
    assert weights[0] == weights[1]


def test_a_run_that_diverged_goes_on_from_before_with_other_settings(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        break_losses(patch, lambda step: step > 12)
        with pytest.raises(UserError, match=r"4 steps in a row, up to 16, .* --resume goes on from there"):
            session.train(recipe_for(text_file, training={"max_skipped_steps": 4}), tmp_path / "run", QUIET)
    names = [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")]
    assert names == ["step-00000014", "step-00000010"]  # that of a good evaluation, and none while it was at that
    assert session.resume(tmp_path / "run", {"training": {"learning_rate": "0.0005"}}, QUIET)


# --- how often checkpoints are saved -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "steps", "seconds"),
    [(7, 7, None), ("12", 12, None), ("90s", None, 90), ("5 min", None, 300), ("1.5h", None, 5400), (None, None, None)],
)
def test_checkpoints_by_steps_or_by_the_clock(given: object, steps: int | None, seconds: float | None) -> None:
    config = TrainingConfig.parse({"max_steps": 1, "checkpoint_every": given})
    assert (config.checkpoint_steps, config.checkpoint_seconds) == (steps, seconds)


@pytest.mark.parametrize("given", [0, -1, "0", "0s", "soon", "5 parsecs", 1.5, True, "", "-3s"])
def test_no_other_times(given: object) -> None:
    with pytest.raises(UserError, match=r"checkpoint_every: a number of steps, or a time such as 90s, 5min or 1h, not"):
        TrainingConfig.parse({"max_steps": 1, "checkpoint_every": given})


def test_the_short_option(text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("train", "--data", text_file, "--out", run, *SMALL, "--checkpoint-every", "5min") == 0
    assert load_recipe(run / "recipe.toml").training.checkpoint_seconds == 300
