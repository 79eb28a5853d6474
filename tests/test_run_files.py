"""The files of a run: held against what they are to hold, before anything is cut or overwritten; and none is lost."""

import io
import json
import os
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from safetensors.torch import load_file, save_file

from glassgpt.errors import DamagedError, UserError
from glassgpt.runs import RunFolder, load, read_metrics, read_summary, reserve
from glassgpt.training import session
from glassgpt.training.checkpoints import STATE_FILE, list_checkpoints
from glassgpt.training.events import Progress
from glassgpt.training.trainer import Step, Trainer
from tests.conftest import TEXT, call
from tests.small_runs import QUIET, Killed, StopAt, comparable, recipe_for
from tests.test_damage import tiny_trainer
from tests.test_mended_runs import said
from tests.test_plot import made_up

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
WRONG = ["x", True, [], {}, -1, 2**70, 1e300, "1", 0.5]
NUMBERS = ("train_loss", "val_loss", "val_bits_per_byte", "lr", "grad_norm", "tokens_per_second", "seconds")


@pytest.fixture
def stopped(text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped at step 17, with checkpoints of steps 17, 15 and 14 (the best)."""
    with monkeypatch.context() as patch:
        StopAt(patch, [17])
        assert not session.train(recipe_for(text_file), tmp_path / "run", QUIET)
    return tmp_path / "run"


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"}


# --- metrics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["step", "tokens", "bytes", "skipped", *NUMBERS])
def test_a_figure_of_another_type_is_a_damaged_line(field: str, tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    for value in WRONG:
        if field in NUMBERS and (value in (0.5, 2**70) or (value == -1 and field in NUMBERS[:3])):
            continue
        rows = made_up(5)
        rows[3][field] = value
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        with pytest.raises(UserError, match=r"metrics.jsonl: damaged: line 4: fix it, or remove the line$"):
            read_metrics(file)


@given(st.lists(st.dictionaries(st.sampled_from(["step", "lr", "seconds", "val_loss", "more"]), JSON), max_size=4))
def test_whatever_stands_in_a_row_is_refused_in_one_line_or_a_number(rows: list[dict[str, Any]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glassgpt.reading._whole_lines", lambda *_: [json.dumps(row).encode() for row in rows])
        patch.setattr("os.path.lexists", lambda _: True)
        try:
            found = read_metrics(Path("metrics.jsonl"))
        except UserError as error:
            assert "\n" not in str(error)
            return
    assert [row["step"] for row in found] == [row["step"] for row in rows]
    assert all(type(row["step"]) is int and type(row.get("lr", 0.0)) is float for row in found)
    assert [row.get("more") for row in found] == [row.get("more") for row in rows]  # another version's


def test_metrics_that_cannot_be_continued_are_named_before_anything_is_trained_or_changed(stopped: Path) -> None:
    file = stopped / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for field, value in (("train_loss", "x"), ("tokens", 10**9), ("skipped", 5)):
        changed = [*rows[:-1], {**rows[-1], field: value}]
        file.write_text("".join(json.dumps(row) + "\n" for row in changed), encoding="utf-8")
        before = content(stopped)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match=rf"metrics.jsonl.* {len(rows)}"):
            patch.setattr(Trainer, "_step", pytest.fail)
            session.resume(stopped, {"training": {"max_steps": "40"}}, QUIET)
        assert content(stopped) == before
    for command in (["plot", stopped], ["compare", stopped, "--out", stopped / "c.png"]):
        rows[0]["train_loss"] = "x"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        assert call(*command) == 2


def test_gradients_that_are_none_are_named_before_anything_is_changed(stopped: Path) -> None:
    (stopped / "gradients.jsonl").write_text('{"step": 2, "parts": {"a": {"b": "x"}}, "blocks": {}}\n')
    before = content(stopped)
    with pytest.raises(UserError, match=r"gradients.jsonl: damaged: line 1"):
        session.resume(stopped, {}, QUIET)
    assert content(stopped) == before


# --- summaries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["steps", "training_seconds", "loss", "bits_per_byte", "bigram", "tokens_per_second"])
@pytest.mark.parametrize("value", ["x", [], -5, None])
def test_a_summary_of_wrong_types_is_one_line(
    field: str, value: object, trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if (field, value) == ("bigram", None) or (value == -5 and "per" in field + "loss per" and field != "steps"):
        return  # (a loss may be anything)
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    (run / "summary.json").write_text(json.dumps({**summary, field: value}), encoding="utf-8")
    with pytest.raises(DamagedError):
        read_summary(RunFolder(run))
    assert call("plot", run) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_damaged_summary_is_written_again(trained_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    (run / "summary.json").write_text('{"steps": "x"}', encoding="utf-8")
    assert session.resume(run, {}, QUIET)
    summary = read_summary(RunFolder(run))
    assert summary is not None and summary["steps"] == 12


# --- checkpoints without digests: trusted no more than those with ----------------------------------------------------


def edit_state(checkpoint: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    file = checkpoint / STATE_FILE
    state = json.loads(file.read_text(encoding="utf-8"))
    del state["sha256"]
    edit(state)
    file.write_text(json.dumps(state), encoding="utf-8")


def edit_tensors(name: str, edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def change(checkpoint: Path) -> None:
        edit_state(checkpoint, lambda _: None)
        tensors = load_file(checkpoint / f"{name}.safetensors")
        edit(tensors)
        save_file(tensors, checkpoint / f"{name}.safetensors")

    return change


def first(tensors: dict[str, torch.Tensor], ending: str) -> str:
    return next(name for name in tensors if name.endswith(ending))


def counters(**values: object) -> Callable[[Path], None]:
    return lambda checkpoint: edit_state(checkpoint, lambda state: state["progress"].update(values))


def scaler(value: object) -> Callable[[Path], None]:
    return lambda checkpoint: edit_state(checkpoint, lambda state: state.update(scaler=value))


SCALE = {"scale": 1.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "_growth_tracker": 0}
DAMAGES: dict[str, Callable[[Path], None]] = {
    "tokens below 0": counters(tokens=-1),
    "seconds below 0": counters(seconds=-1.0),
    "a best step to come": counters(best_step=18),
    "a best step without a loss": counters(best_loss=None),
    "a loss without a step": counters(best_step=0),
    "more skipped than made": counters(skipped=18),
    "more skipped in a row": counters(skipped_in_a_row=1),
    "no tokens": counters(tokens=0),
    "a patience beyond all steps": counters(without_improvement=18),
    "a scaler that is none": scaler(5),
    "a scale below 0": scaler({**SCALE, "scale": -1.0}),
    "a scale that is a word": scaler({**SCALE, "scale": "x"}),
    "half a scaler": scaler({"scale": 1.0}),
    "no scaler": lambda path: edit_state(path, lambda state: state.pop("scaler")),
    "a recipe that is none": lambda path: edit_state(path, lambda state: state.update(recipe=[1])),
    "a weight that is NaN": edit_tensors("model", lambda t: t[first(t, "weight")].view(-1)[:1].fill_(torch.nan)),
    "a weight of another format": edit_tensors("model", lambda t: t.update({n: t[n].half() for n in list(t)[:1]})),
    "a weight of another shape": edit_tensors("model", lambda t: t.update({n: t[n][:1] for n in list(t)[:1]})),
    "a weight too few": edit_tensors("model", lambda t: t.pop(first(t, "weight"))),
    "a weight too many": edit_tensors("model", lambda t: t.update(more=torch.ones(1))),
    "a mean that is inf": edit_tensors("optimizer", lambda t: t[first(t, ":exp_avg")].view(-1)[:1].fill_(torch.inf)),
    "a square below 0": edit_tensors("optimizer", lambda t: t[first(t, ":exp_avg_sq")].view(-1)[:1].fill_(-1.0)),
    "more steps than made": edit_tensors("optimizer", lambda t: t[first(t, ":step")].fill_(18.0)),
    "steps in whole numbers": edit_tensors("optimizer", lambda t: t.update({first(t, ":step"): torch.tensor(1)})),
}


def test_a_checkpoint_that_contradicts_itself_is_damaged(stopped: Path, tmp_path: Path) -> None:
    for number, (name, damage) in enumerate(DAMAGES.items()):
        run = tmp_path / str(number)
        shutil.copytree(stopped, run)
        newest = list_checkpoints(run / "checkpoints")[0]
        damage(newest)
        console = Console(record=True, width=500, file=io.StringIO())
        with pytest.MonkeyPatch.context() as patch:
            StopAt(patch, [16])
            session.resume(run, {}, console)
        shown = console.export_text()
        assert f"warning: {newest}" in shown and ("damaged" in shown or "not a checkpoint" in shown), (name, shown)
        assert "at step 15" in shown, name
        shutil.rmtree(run)


@given(st.dictionaries(st.sampled_from(list(vars(Progress()))), JSON))
def test_any_counters_are_refused_or_counters(values: dict[str, Any]) -> None:
    try:
        found = Progress.parse(values)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    assert 0 <= found.skipped_in_a_row <= found.skipped <= found.step
    assert 0 <= found.best_step <= found.step


def test_what_is_refused_leaves_the_trainer_as_it_was() -> None:
    trainer = tiny_trainer()
    list(trainer)
    model, optimizer, numbers = trainer.state()
    good = {name: tensor.clone() for name, tensor in model.items()}
    state = {name: tensor.clone() for name, tensor in optimizer.items()}
    changed = {name: tensor + 1 for name, tensor in good.items()}
    bad = {**state, first(state, ":exp_avg"): torch.ones(1)}
    for weights, moments in ((changed, bad), ({**changed, first(good, "weight"): torch.ones(1)}, state)):
        with pytest.raises(ValueError, match="has another shape"):
            trainer.load_state(weights, moments, numbers)
        assert all(torch.equal(good[name], tensor) for name, tensor in trainer.model.state_dict().items())
        assert all(torch.equal(state[name], tensor) for name, tensor in trainer.optimizer.state().items())


def test_a_checkpoint_that_is_a_link_is_used_and_only_the_link_goes(stopped: Path, tmp_path: Path) -> None:
    for checkpoint in list_checkpoints(stopped / "checkpoints"):
        checkpoint.rename(tmp_path / checkpoint.name)
        try:
            checkpoint.symlink_to(tmp_path / checkpoint.name, target_is_directory=True)
        except OSError:
            pytest.skip("this system makes no links for this user")
    (tmp_path / "elsewhere").mkdir()
    (stopped / "checkpoints" / "step-00000020").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert "at step 17" in said(stopped, training={"keep_checkpoints": 1})
    assert (tmp_path / "elsewhere").is_dir()
    assert len(load_file(tmp_path / "step-00000017" / "model.safetensors")) > 0
    assert not [path for path in (stopped / "checkpoints").iterdir() if path.is_symlink()]
    assert [path.name for path in list_checkpoints(stopped / "checkpoints")] == ["step-00000030"]


# --- files that go while training ------------------------------------------------------------------------------------


def at_step(patch: pytest.MonkeyPatch, step: int, do: Callable[[], object]) -> None:
    original = Trainer._step

    def step_and_do(self: Trainer) -> Step:
        event = original(self)
        if event.step == step:
            do()
        return event

    patch.setattr(Trainer, "_step", step_and_do)


SHORT = {"watch_gradients": 3, "max_steps": 9, "eval_every": 4, "checkpoint_every": 4}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from which nothing is taken away."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    session.train(recipe_for(folder / "text.txt", training=SHORT), folder / "run", QUIET)
    return folder / "run"


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps files that are open")
@pytest.mark.parametrize("name", ["metrics.jsonl", "gradients.jsonl", "samples.txt", "model.safetensors"])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_taken_away_while_training_is_written_again(
    name: str, replaced: bool, whole: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, recipe = tmp_path / "run", recipe_for(text_file, training=SHORT)

    def take_away() -> None:
        (run / name).unlink()
        if replaced:
            (run / name).write_text("another's", encoding="utf-8")

    at_step(monkeypatch, 7, take_away)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert session.train(recipe, run, QUIET)
    assert name == "model.safetensors" or f"{run / name}: removed or " in str(told[0].message)
    assert comparable(run) == comparable(whole)
    for file in ("gradients.jsonl", "samples.txt", "model.safetensors"):
        assert (run / file).read_bytes() == (whole / file).read_bytes()


@pytest.mark.parametrize("name", ["metrics.jsonl", "gradients.jsonl"])
def test_a_file_that_another_program_writes_to_ends_the_run(
    name: str, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, recipe = tmp_path / "run", recipe_for(text_file, training=SHORT)
    with monkeypatch.context() as patch:
        at_step(patch, 7, lambda: (run / name).write_text("", encoding="utf-8"))
        with pytest.raises(UserError, match=rf"{name}: changed by another program while training: .* --resume$"):
            session.train(recipe, run, QUIET)
    assert session.resume(run, {}, QUIET)


def test_checkpoints_that_are_taken_away_while_training_do_no_harm(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    at_step(monkeypatch, 7, lambda: shutil.rmtree(run / "checkpoints"))
    assert session.train(recipe_for(text_file, training=SHORT), run, QUIET)
    assert list_checkpoints(run / "checkpoints")[0].name == "step-00000009"


def test_a_sample_that_looks_like_the_head_of_another_is_kept(text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    session.train(recipe_for(text_file, training=SHORT), run, QUIET)
    text = (run / "samples.txt").read_bytes()
    changed = text.replace(b"step 4 -----", b"step 4 -----\r\n----- step " + b"9" * 5000 + b" -----")
    (run / "samples.txt").write_bytes(changed)
    assert session.resume(run, {"training": {"max_steps": "10"}}, QUIET)
    assert (run / "samples.txt").read_bytes().startswith(changed)


# --- what is refused changes nothing ---------------------------------------------------------------------------------


def test_a_resumption_that_is_refused_leaves_the_recipe(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = {"training": {"max_steps": "44"}}
    before = content(stopped)

    def no_room(patch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr("glassgpt.training.session.MetricsFile", fail)

    def no_device(patch: pytest.MonkeyPatch) -> None:
        overrides["training"]["device"] = "cuda:77"

    def no_text(patch: pytest.MonkeyPatch) -> None:
        overrides["training"].pop("device", None)
        (stopped.parent / "text.txt").rename(stopped.parent / "moved.txt")

    for refuse, says in ((no_room, "No space left"), (no_device, "cuda"), (no_text, "if it was moved, .*--data")):
        with monkeypatch.context() as patch:
            refuse(patch)
            with pytest.raises(UserError, match=says):
                session.resume(stopped, overrides, QUIET)
        after = content(stopped)
        assert {path: after[path] for path in before if path.name != "samples.txt"} == {
            path: data for path, data in before.items() if path.name != "samples.txt"
        }
    assert session.resume(stopped, {"data": {"source": [str(stopped.parent / "moved.txt")]}}, QUIET)  # as it says


@pytest.mark.parametrize("error", [UserError("refused"), OSError(28, "No space left on device"), RuntimeError("a bug")])
def test_a_run_that_is_refused_before_its_first_step_leaves_nothing(
    error: Exception, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Trainer, "_step", fail)
    with pytest.raises(type(error) if not isinstance(error, OSError) else UserError):
        session.train(recipe_for(text_file), tmp_path / "runs" / "run", QUIET)
    assert not (tmp_path / "runs").exists()


def test_numbers_beyond_all_bounds_leave_no_half_made_run(tmp_path: Path, text_file: Path) -> None:
    big, deep = tmp_path / "big.toml", tmp_path / "deep.toml"
    big.write_text(f"[training]\nmax_steps = 0x{'f' * 5000}\n", encoding="utf-8")
    deep.write_text(f"a = {'[' * 3000}{']' * 3000}\n", encoding="utf-8")
    for recipe in (big, deep):
        assert call("train", recipe, "--data", text_file, "--out", tmp_path / "run") == 2
        assert not (tmp_path / "run").exists()


# --- beginnings that were killed, and names --------------------------------------------------------------------------

LEFT = [
    ".lock",
    "checkpoints/",
    "input.txt",
    ".tokenizer.json.999999999.tmp",
    "tokenizer.json",
    ".recipe.toml.1.tmp",
]


@pytest.mark.parametrize("files", range(len(LEFT) + 1))
def test_what_a_killed_beginning_left_is_taken_over(files: int, text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "run"
    run.mkdir(parents=True)
    for name in LEFT[:files]:
        (run / name).mkdir() if name.endswith("/") else (run / name).write_text("{", encoding="utf-8")
    with reserve("run", tmp_path / "runs") as folder:
        assert folder.path == run
        assert session.train(recipe_for(text_file, training={"max_steps": 2}), folder, QUIET)
    assert not list(run.glob(".*")) and not (run / "input.txt").exists()


def die_after(patch: pytest.MonkeyPatch, number: int, within: Path, calls: list[Path]) -> None:
    """Let nothing be done in a folder after so many calls."""

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        def act(path: Path, *args: Any, **named: Any) -> Any:
            if within in (path, *path.parents):
                calls.append(path)
                if len(calls) > number:
                    raise Killed
            return original(path, *args, **named)

        return act

    for name in ("replace", "mkdir", "unlink", "rmdir"):
        patch.setattr(Path, name, dying(getattr(Path, name)))


def test_a_kill_at_any_moment_of_the_beginning_leaves_a_run_or_a_free_folder(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, tokenizer = RunFolder(trained_run).read_recipe(), load(trained_run).tokenizer
    for number in range(60):
        calls: list[Path] = []
        run = RunFolder(tmp_path / "runs" / "run")
        with monkeypatch.context() as patch, suppress(Killed):
            die_after(patch, number, tmp_path / "runs", calls)
            with run.locked():
                run.create(recipe, tokenizer, trained_run / "recipe.toml")
        if run.recipe.exists():
            assert run.read_recipe() == recipe and run.read_tokenizer(recipe).fingerprint == tokenizer.fingerprint
        else:
            again = RunFolder(run.path)
            again.check_free()
            with again.locked():
                again.create(recipe, tokenizer)
            assert {path.name for path in run.path.iterdir()} == {"checkpoints", "recipe.toml", "tokenizer.json"}
        shutil.rmtree(tmp_path / "runs")
        if len(calls) <= number:
            break
    assert 8 < number < 59


def test_names_are_reserved_when_chosen(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool, ExitStack() as held:
        folders = list(pool.map(lambda _: held.enter_context(reserve("run", tmp_path / "runs")), range(8)))
        expected = {"run", *(f"run-{number}" for number in range(2, 9))}
        assert {folder.path.name for folder in folders} == expected
    assert not list(tmp_path.glob("runs/*"))


def test_what_is_there_already_is_passed_over(trained_run: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "run-2").write_text("mine", encoding="utf-8")
    (tmp_path / "run-3").mkdir()
    (tmp_path / "run-3" / "mine.txt").touch()
    (tmp_path / "run-4").mkdir()
    with reserve("run", tmp_path) as folder:
        assert folder.path.name == "run-4"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-2", "run-3"]
