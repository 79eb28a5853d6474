"""How trainings end, and what they say then: once evaluated, timed without pauses, with advice that works."""

import io
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

from glassgpt.data.batches import Windows
from glassgpt.errors import UserError
from glassgpt.inspection.capture import capture
from glassgpt.model import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.paths import as_word
from glassgpt.runs import RunFolder, read_summary
from glassgpt.tokenizers import CharTokenizer
from glassgpt.training import session
from glassgpt.training.advice import word_to_try
from glassgpt.training.clock import Clock
from glassgpt.training.comparison import short_names
from glassgpt.training.drawing import plain
from glassgpt.training.evaluation import evaluate
from glassgpt.training.trainer import Checkpoint, Evaluation, Step, Trainer
from tests.conftest import TEXT, call
from tests.small_runs import QUIET, recipe_for
from tests.test_training import make_trainer

# --- the last evaluation ---------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    st.integers(1, 6),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 7),
    st.sampled_from([Step, Evaluation, None]),
)
def test_every_end_is_evaluated_once_and_saved_last(
    total: int, eval_every: int, checkpoint_every: int, stop_at: int, stop_on: type | None
) -> None:
    trainer = make_trainer(validation=True, max_steps=total, eval_every=eval_every, checkpoint_every=checkpoint_every)
    events = []
    for event in trainer:
        events.append((type(event), event.step))
        if stop_on is not None and isinstance(event, stop_on) and event.step == stop_at:
            trainer.stop("enough")
    last = trainer.progress.step
    evaluated = [step for kind, step in events if kind is Evaluation]
    assert evaluated == sorted(set(evaluated)) and evaluated[-1] == last
    assert events[-1] == (Checkpoint, last)
    assert len(events) == len(set(events))


def test_a_time_that_is_up_at_the_last_step_gives_one_line_and_one_sample(text_file: Path, tmp_path: Path) -> None:
    for every in ({}, {"checkpoint_every": 1}):
        run = tmp_path / str(len(every))
        changes = {"max_steps": 2, "max_seconds": 1e-6, "eval_every": 5, "log_every": 1, **every}
        session.train(recipe_for(text_file, training=changes), run, QUIET)
        rows = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert [row.partition(",")[0] for row in rows] == ['{"step": 1', '{"step": 2']
        assert (run / "samples.txt").read_text(encoding="utf-8").count("----- step") == 1


# --- modes -----------------------------------------------------------------------------------------------------------


class Breaking(nn.Module):
    """A model of which a part is frozen, and that may fail."""

    def __init__(self, fails: bool):
        super().__init__()
        self.fails, self.table = fails, nn.Embedding(5, 5)
        self.parts = nn.ModuleList([nn.Dropout(), nn.Dropout(), nn.Sequential(nn.Dropout())])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        assert not any(module.training for module in self.modules())
        if self.fails:
            raise ZeroDivisionError
        return self.table(ids)


@given(st.lists(st.booleans(), min_size=7, max_size=7), st.booleans())
def test_each_module_gets_its_mode_back(modes: list[bool], fails: bool) -> None:
    model = Breaking(fails)
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    try:
        evaluate(model, Windows(torch.arange(5).numpy(), 4), torch.device("cpu"))
    except ZeroDivisionError:
        assert fails
    assert [module.training for module in model.modules()] == modes


def test_a_look_inside_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GPT(ModelConfig(vocab_size=9, block_size=8, n_layer=2, n_head=2, n_embd=8))
    model.blocks[0].eval()
    before = [(module.training, dict(module._forward_hooks)) for module in model.modules()]
    monkeypatch.setattr(type(model.blocks[1].mlp), "forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        capture(model, [1, 2, 3], "*")
    assert [(module.training, dict(module._forward_hooks)) for module in model.modules()] == before


# --- time ------------------------------------------------------------------------------------------------------------


class FakeTime:
    """Time that goes by when told to: for everyone, and for this process."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.wall = self.cpu = 100.0
        patch.setattr(time, "perf_counter", lambda: self.wall)
        patch.setattr(time, "process_time", lambda: self.cpu)

    def run(self, seconds: float, share: float = 1.0) -> None:
        self.wall, self.cpu = self.wall + seconds, self.cpu + share * seconds


@pytest.mark.parametrize(("step", "share"), [(0.01, 1.9), (0.4, 1.0), (3.0, 0.5), (0.05, 0.02)])
def test_time_for_which_the_process_was_stopped_does_not_count(
    step: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, now = FakeTime(monkeypatch), Clock()
    for lap in range(1, 21):
        clock.run(step, share)
        if lap in (3, 12):
            clock.run(3600.0, 0.0)
        assert now.lap() == pytest.approx(step, rel=0.01)
    assert now.seconds == pytest.approx(20 * step, rel=0.01)


@pytest.mark.parametrize("share", [1.0, 0.1, 0.0])
def test_a_step_that_is_slow_for_other_reasons_counts(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones compile, a busy machine gives little, and a slow disk makes all of them wait."""
    clock, now = FakeTime(monkeypatch), Clock()
    for seconds in (30.0, 2.0, 9.0) if share else (0.9, 0.9):
        clock.run(seconds, share)
        assert now.lap() == pytest.approx(seconds)


def test_a_run_that_was_stopped_in_between_trains_for_as_long_as_it_was_told(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, original = FakeTime(monkeypatch), Trainer._step

    def step(self: Trainer) -> Step:
        event = original(self)
        clock.run(1.0)
        if event.step in (3, 5):
            clock.run(1000.0, 0.0)
        return event

    monkeypatch.setattr(Trainer, "_step", step)
    changes = {"max_seconds": 12, "eval_every": 100, "checkpoint_every": "5min", "log_every": 1}
    session.train(recipe_for(text_file, training=changes), tmp_path / "run", QUIET)
    summary = read_summary(RunFolder(tmp_path / "run"))
    assert summary is not None and (summary["steps"], summary["training_seconds"]) == (13, 13.0)
    assert summary["tokens_per_second"] == pytest.approx(96.0)


# --- advice ----------------------------------------------------------------------------------------------------------

TEXTS = {
    "no spaces": ("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏" * 60, {"tokenizer": {"kind": "char"}}),
    "words": ("El niño comió; después — nada. नमस्ते दुनिया\n" * 60, {"tokenizer": {"kind": "word", "vocab_size": 12}}),
    "no letters": ("-?.! -- ;;\n" * 100, {"tokenizer": {"kind": "char"}}),
    "bytes": ("Привет, мир! 'a' \\ $HOME\n" * 60, {"tokenizer": {"kind": "byte"}, "data": {"val_fraction": 0.0}}),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("folder", ["a 'run' of ~ours"])
def test_every_command_that_is_printed_works(
    name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, changes = TEXTS[name]
    Path("my.txt").write_text(text, encoding="utf-8")
    console = Console(record=True, width=200, file=io.StringIO())
    recipe = recipe_for(Path("my.txt"), **{"training": {"max_steps": 2}, **changes})
    assert session.train(recipe, Path(folder), console)
    commands = re.findall(r"^  glassgpt (.*?) *$", console.export_text(), re.MULTILINE)
    assert len(commands) == (4 if recipe.data.val_fraction else 3)
    for command in commands[:-1]:
        more = ["--max-new-tokens", "3"] if command.startswith("generate") else []
        more = ["--no-pictures"] if command.startswith("inspect") else more
        assert call(*shlex.split(command, comments=True), *more) == 0, command


@pytest.mark.parametrize("name", ["-run", "~run", "a b", "it's", "~"])
def test_a_path_in_a_command_is_no_option_and_no_home(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (word,) = shlex.split(as_word(Path(name)))
    assert not word.startswith("-")
    assert RunFolder(word).path.resolve() == tmp_path / name


@given(st.text(max_size=60), st.text(min_size=1, max_size=10))
def test_any_sample_gives_a_prompt_that_the_model_can_read_or_none(sample: str, known: str) -> None:
    tokenizer = CharTokenizer(sorted(set(known)))
    word = word_to_try(tokenizer, 4, sample)
    if word is not None:
        assert set(word) <= set(known) and word.isprintable() and len(word) <= 4
    else:
        assert not [sign for sign in sample if sign in known and sign.isalnum()]


@pytest.mark.parametrize("error", [RuntimeError("can't allocate memory: you tried"), torch.OutOfMemoryError()])
@pytest.mark.parametrize("step", [1, 5])
def test_out_of_memory_is_answered_with_what_can_be_done(
    error: Exception, step: int, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, original = tmp_path / "run", Trainer._step

    def fail(self: Trainer) -> Step:
        if self.progress.step == step - 1:
            raise error
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", fail)
        with pytest.raises(UserError, match="cpu ran out of memory") as raised:
            session.train(recipe_for(text_file), run, QUIET)
    said = str(raised.value)
    assert "--training.batch-size 1 --training.gradient-accumulation 6" in said
    assert "--training.activation-checkpointing true" in said
    assert run.exists() == ("resume this run" in said) == (step == 5)
    if step == 5:
        assert session.resume(run, {"training": {"activation_checkpointing": "true"}}, QUIET)


def test_a_text_of_one_character_is_too_short(
    tmp_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.txt").write_text("a", encoding="utf-8")
    assert call("train", "--data", tmp_path / "one.txt", "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "one.txt: too short:" in error and "prompt" not in error
    assert not (tmp_path / "run").exists()


# --- what is shown ---------------------------------------------------------------------------------------------------

EVIL = "\x1b]0;title\x07\x1b[2J\u202e\x9b31m"


def test_nothing_that_a_model_or_a_file_says_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    (tmp_path / "a[").mkdir()
    (tmp_path / "a[" / "v].txt").write_text((TEXT[:40] + EVIL + "\n") * 40, encoding="utf-8")
    shown = io.StringIO()
    recipe = recipe_for(tmp_path / "a[" / "v].txt", training={"max_steps": 2}, sampling={"prompt": EVIL[-8:]})
    assert session.train(recipe, tmp_path / f"w[/v]{EVIL[:5]}", Console(file=shown, width=300))
    assert not set(shown.getvalue()) & set("\x1b\x07\x9b\u202e")
    assert "a[/v].txt" in shown.getvalue() and "w[/v]" in shown.getvalue()
    (name,) = short_names([tmp_path / f"w[/v]{EVIL[:5]}"])
    assert plain(name).isprintable() and plain("a\nb\tc\ud800").isprintable()


def test_a_picture_that_cannot_be_drawn_does_not_lose_the_result(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("Key backend: 'nosuch' is not valid\nat all")

    monkeypatch.setattr("glassgpt.training.report.draw_curves", fail)
    with pytest.warns(UserWarning, match=r"curves.png: not drawn: Key backend: 'nosuch' is not valid; .*glassgpt plot"):
        assert session.train(recipe_for(text_file, training={"max_steps": 2}), tmp_path / "run", QUIET)
    assert read_summary(RunFolder(tmp_path / "run")) is not None


PICTURES = """
import os, sys
from glassgpt.training.drawing import load_matplotlib
load_matplotlib()
import matplotlib
assert os.environ["MPLBACKEND"] == sys.argv[1]
assert sys.argv[1] == "nosuch" or matplotlib.get_backend() == sys.argv[1]
"""


@pytest.mark.parametrize("windows", ["nosuch", "svg"])
def test_what_matplotlib_is_set_to_show_windows_with_does_not_matter(windows: str, tmp_path: Path) -> None:
    environment = {**os.environ, "MPLBACKEND": windows, "MPLCONFIGDIR": str(tmp_path / "file" / "no")}
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-c", PICTURES, windows], env=environment, capture_output=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
