"""Runs that someone edited, copied or lost a file of; streams that are closed; advice that is true."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from glassgpt.errors import UserError
from glassgpt.runs import load, read_metrics
from glassgpt.training import session
from glassgpt.training.checkpoints import STATE_FILE, list_checkpoints
from glassgpt.training.comparison import read_compared
from glassgpt.training.trainer import Step, Trainer
from tests.conftest import SMALL, call
from tests.small_runs import QUIET, StopAt, comparable, recipe_for

WITHOUT_VALIDATION = {"data": {"val_fraction": 0.0}}


@pytest.fixture
def stopped(text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped at step 17, with checkpoints of steps 17, 15 and 14 (the best)."""
    with monkeypatch.context() as patch:
        StopAt(patch, [17])
        assert not session.train(recipe_for(text_file), tmp_path / "run", QUIET)
    return tmp_path / "run"


@pytest.fixture
def finished(trained_run: Path, tmp_path: Path) -> Path:
    """A run of 12 steps that has ended."""
    shutil.copytree(trained_run, tmp_path / "run")
    return tmp_path / "run"


def said(run: Path, **overrides: Any) -> str:
    """What is shown when a run goes on to its end."""
    console = Console(record=True, width=500, file=io.StringIO())
    assert session.resume(run, overrides, console)
    return console.export_text()


# --- a checkpoint's state --------------------------------------------------------------------------------------------


def change(run: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """Edit the newest checkpoint's state; return its file."""
    file = list_checkpoints(run / "checkpoints")[0] / STATE_FILE
    state = json.loads(file.read_text(encoding="utf-8"))
    edit(state)
    file.write_text(json.dumps(state), encoding="utf-8")
    return file


def forget_digest(state: dict[str, Any]) -> None:
    """As in a checkpoint from before states had one."""
    del state["sha256"][STATE_FILE]


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "best_loss": lambda state: state["progress"].update(best_loss=0.5),
    "tokens": lambda state: state["progress"].update(tokens=state["progress"]["tokens"] + 1),
    "seed": lambda state: state["recipe"]["training"].update(seed=7),
    "no recipe": lambda state: state.update(recipe=None),
    "more": lambda state: state.update(more=1),
    "digest": lambda state: state["sha256"].update({STATE_FILE: "0"}),
    "digests": lambda state: state.update(sha256=[1]),
    "version": lambda state: state.update(version="x"),
    "no version": lambda state: state.pop("version"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_state_is_damaged(name: str, text_file: Path, stopped: Path) -> None:
    file = change(stopped, EDITS[name])
    shown = said(stopped)
    assert f"warning: {file}: damaged: its " in shown
    assert "at step 15" in shown
    session.train(recipe_for(text_file), stopped.parent / "whole", QUIET)
    assert comparable(stopped) == comparable(stopped.parent / "whole")


@pytest.mark.parametrize("step", [16, "17", 17.5, 17.0, True, None, -1])
@pytest.mark.parametrize("older", [False, True])
def test_a_state_is_about_the_step_of_its_folder(step: object, older: bool, stopped: Path) -> None:
    """Also where no digest says so."""

    def edit(state: dict[str, Any]) -> None:
        state["progress"]["step"] = step
        if older:
            forget_digest(state)

    file = change(stopped, edit)
    shown = said(stopped)
    assert f"warning: {file}: damaged: " in shown
    assert "at step 15" in shown


@pytest.mark.parametrize("progress", [None, [], {"step": 17, "tokens": "x"}, {"step": 17, "seconds": None}])
def test_counters_that_are_none_change_no_trainer(
    progress: object, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(state: dict[str, Any]) -> None:
        state["progress"] = progress
        forget_digest(state)

    file = change(stopped, edit)
    loaded = []
    original = Trainer.load_state

    def load_state(self: Trainer, model: Any, optimizer: Any, counters: dict[str, Any]) -> None:
        loaded.append(counters["progress"]["step"])
        original(self, model, optimizer, counters)

    monkeypatch.setattr(Trainer, "load_state", load_state)
    assert f"{file}: damaged: progress" in said(stopped)
    assert loaded == [15]


def test_a_state_that_is_laid_out_otherwise_is_the_same(stopped: Path) -> None:
    file = list_checkpoints(stopped / "checkpoints")[0] / STATE_FILE
    state = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(state, sort_keys=True), encoding="utf-8")
    assert "at step 17" in said(stopped)


def test_a_state_without_a_digest_is_an_older_one(stopped: Path) -> None:
    change(stopped, forget_digest)
    assert "at step 17" in said(stopped)


# --- what is beside the checkpoints ----------------------------------------------------------------------------------


def test_copies_of_checkpoints_are_left_alone(text_file: Path, stopped: Path) -> None:
    checkpoints = stopped / "checkpoints"
    newest = list_checkpoints(checkpoints)[0]
    names = ["step-00000017-mine", "step-backup", "step-000000017", "step-17", "step-00000001x", "step-", "old"]
    for name in names:
        shutil.copytree(newest, checkpoints / name)
    (checkpoints / "step-00000099").write_text("mine", encoding="utf-8")
    before = {path: path.read_bytes() for name in names for path in (checkpoints / name).iterdir()}
    assert "at step 17" in said(stopped, training={"keep_checkpoints": 1})
    assert {path: path.read_bytes() for path in before} == before
    assert [path.name for path in list_checkpoints(checkpoints)] == ["step-00000030"]
    assert (checkpoints / "step-00000099").read_text(encoding="utf-8") == "mine"
    assert read_compared(stopped, "run").finished  # by the numbers of the checkpoints, too
    session.train(recipe_for(text_file), stopped.parent / "whole", QUIET)
    assert comparable(stopped) == comparable(stopped.parent / "whole")


def test_checkpoints_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000, 5):
        (tmp_path / f"step-{step:08d}").mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-100000000", "step-99999999", "step-00000005"]


def test_a_file_where_a_checkpoint_is_to_be_is_named(stopped: Path) -> None:
    mine = stopped / "checkpoints" / "step-00000020"
    mine.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"step-00000020: a file is where a folder is to be: move it elsewhere$"):
        session.resume(stopped, {}, QUIET)
    assert mine.read_text(encoding="utf-8") == "mine"
    mine.unlink()
    assert session.resume(stopped, {}, QUIET)


# --- lost weights ----------------------------------------------------------------------------------------------------


def lose(file: Path, content: bytes | None) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_a_finished_run_gets_its_weights_back(
    content: bytes | None, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    lose(finished / "model.safetensors", content)
    assert call("train", "--resume", finished) == 0
    best = json.loads((finished / "summary.json").read_text(encoding="utf-8"))["best_step"]
    shown = capsys.readouterr().out.replace("\n", "")
    assert shown == f"{finished}/model.safetensors: brought back from step-{best:08d}".replace("/", os.sep)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before
    assert call("train", "--resume", finished) == 2  # there is nothing left to do
    assert "finished at step 12: to go further, say so" in capsys.readouterr().err


def test_weights_that_nothing_judged_come_back_from_the_newest_checkpoint(text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    session.train(recipe_for(text_file, **WITHOUT_VALIDATION), run, QUIET)
    weights = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").unlink()
    assert "model.safetensors: brought back from step-00000030" in said(run)
    assert (run / "model.safetensors").read_bytes() == weights
    assert load(run, "cpu").generate(max_new_tokens=3)


def test_whole_weights_are_not_touched_nor_mentioned(stopped: Path) -> None:
    assert "brought back" not in said(stopped)


# --- signals ---------------------------------------------------------------------------------------------------------

POSIX = pytest.mark.skipif(os.name == "nt", reason="signals that Windows does not have")


def send_at(patch: pytest.MonkeyPatch, step: int, signals: list[str]) -> None:
    """Send this process signals, one after the other, at the end of a step."""
    original = Trainer._step

    def step_and_signal(self: Trainer) -> Step:
        event = original(self)
        if event.step == step:
            for name in signals:
                signal.raise_signal(getattr(signal, name))
        return event

    patch.setattr(Trainer, "_step", step_and_signal)


@POSIX
@pytest.mark.parametrize(
    "signals",
    [["SIGTERM", "SIGHUP"], ["SIGHUP", "SIGTERM"], ["SIGHUP", "SIGHUP"], ["SIGINT", "SIGTERM", "SIGHUP"]],
    ids=" ".join,
)
def test_a_shutdown_is_one_request(
    signals: list[str], text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        send_at(patch, 17, signals)
        assert not session.train(recipe_for(text_file), tmp_path / "run", QUIET)
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[0].name == "step-00000017"
    assert session.resume(tmp_path / "run", {}, QUIET)
    session.train(recipe_for(text_file), tmp_path / "whole", QUIET)
    assert comparable(tmp_path / "run") == comparable(tmp_path / "whole")


@POSIX
@pytest.mark.parametrize(
    ("signals", "again"),
    [(["SIGINT", "SIGINT"], "Ctrl-C"), (["SIGTERM", "SIGTERM"], "SIGTERM"), (["SIGHUP", "SIGINT", "SIGINT"], "")],
)
def test_the_same_signal_again_ends_it_at_once(
    signals: list[str], again: str, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_at(monkeypatch, 17, signals)
    console = Console(record=True, width=500, file=io.StringIO())
    with pytest.raises(KeyboardInterrupt):
        session.train(recipe_for(text_file), tmp_path / "run", console)
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[0].name == "step-00000015"
    shown = console.export_text()
    assert f"stopping after this step ({again} again to stop at once" in shown or not again
    assert "stopped at once, back to the last checkpoint" in shown


# --- closed streams --------------------------------------------------------------------------------------------------


def with_closed(numbers: tuple[int, ...], *words: object) -> subprocess.CompletedProcess[bytes]:
    """Run a command with some of its three streams closed, as `>&-` in a shell does."""
    return subprocess.run(
        [sys.executable, "-m", "glassgpt", *map(str, words)],
        stdin=subprocess.DEVNULL if 0 not in numbers else None,
        capture_output=True,
        timeout=300,
        check=False,
        preexec_fn=lambda: [os.close(number) for number in numbers],  # type: ignore[arg-type,return-value]
    )


@POSIX
@pytest.mark.parametrize("numbers", [(1,), (2,), (0, 1, 2)], ids=str)
def test_a_run_needs_no_streams(numbers: tuple[int, ...], text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = with_closed(numbers, "train", "--data", text_file, "--out", run, *SMALL)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [row["step"] for row in read_metrics(run / "metrics.jsonl")] == list(range(1, 13))
    assert (run / "summary.json").exists()


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_no_command_needs_its_streams(number: int, trained_run: Path, tmp_path: Path, text_file: Path) -> None:
    for words in (
        *(("--help",), ("--version",), ("recipes",), ("train", "--help"), ("info", trained_run)),
        ("generate", trained_run, "--prompt", "the", "--max-new-tokens", 3),
        ("evaluate", trained_run),
        ("compare", trained_run, "--out", tmp_path / "compare.png"),
        ("plot", trained_run, "--out", tmp_path / "plot.png"),
        ("prepare", text_file, "--tokenizer", "byte", "--out", tmp_path / "prepared"),
        ("tokenizer", "train", text_file, "--out", tmp_path / "tokenizer.json"),
        ("play", trained_run),
    ):
        done = with_closed((number,), *words)
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), (words, done.stderr)
    done = with_closed((number,), "generate", tmp_path / "none")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, number != 2)


# --- advice ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["train"]])
def test_too_many_threads_are_refused_with_the_most(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr("torch.set_num_threads", pytest.fail)
    assert call("bench", *command, "--threads", 13, "--device", "cpu") == 2
    error = capsys.readouterr().err
    assert error == "glassgpt: --threads 13: at most 12 on this machine (4 for each of its processors)\n"


@pytest.mark.parametrize("grad_clip", [0.0, 1.0])
@pytest.mark.parametrize("last_good", [2, 12])
def test_a_run_that_diverged_says_what_is_left_and_what_to_do(
    grad_clip: float, last_good: int, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(text_file, training={"max_skipped_steps": 2, "grad_clip": grad_clip})
    original = Trainer._step

    def step(self: Trainer) -> Step:
        if self.progress.step == last_good:
            next(self.model.parameters()).register_hook(lambda gradient: gradient * float("nan"))
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(UserError) as raised:
            session.train(recipe, tmp_path / "run", QUIET)
    error = str(raised.value)
    assert ("--training.grad-clip 1" in error) == (grad_clip == 0)
    kept = list_checkpoints(tmp_path / "run" / "checkpoints")
    if kept:
        assert error.endswith("; what was saved before is as it was, and --resume goes on from there")
    else:
        assert error.endswith("; nothing was saved yet, and --resume begins again at the first step")
    assert bool(kept) == (last_good == 12)
    changes = {"training": {"learning_rate": "0.0005", "grad_clip": "1"}}
    assert session.resume(tmp_path / "run", changes, QUIET)  # as it says


REFUSALS = {errno.EROFS: "Read-only file system", errno.EACCES: "Permission denied", errno.ENOSPC: "No space left"}


@pytest.mark.parametrize("number", REFUSALS)
def test_a_new_run_that_cannot_be_written_goes_elsewhere(
    number: int, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = Path.mkdir

    def mkdir(path: Path, *args: Any, **named: Any) -> None:
        if path == tmp_path / "run":
            raise OSError(number, os.strerror(number), str(path))
        original(path, *args, **named)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert call("train", "--data", text_file, "--out", tmp_path / "run", *SMALL) == 2
    error = capsys.readouterr().err
    assert error == (
        f"glassgpt: {tmp_path / 'run'}: cannot be written: {os.strerror(number)}: choose another with --out\n"
    )
    assert not (tmp_path / "run").exists()


def test_a_run_on_a_read_only_disk_can_be_copied(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr("filelock.FileLock.acquire", fail)
        with pytest.raises(UserError, match=r"run: cannot be written: .*: make it writable, or copy it$"):
            session.resume(stopped, {}, QUIET)
    assert session.resume(stopped, {}, QUIET)


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_file_where_a_trackers_folder_is_to_be_is_named(name: str, stopped: Path) -> None:
    pytest.importorskip(name)
    (stopped / name).write_text("mine", encoding="utf-8")
    shown = said(stopped, training={"track": [name]})
    assert (
        f"warning: {name} failed and is off from here on, the run goes on: {stopped / name}: a file is where a folder "
        "is to be: move it elsewhere"
    ) in shown
    assert (stopped / name).read_text(encoding="utf-8") == "mine"
