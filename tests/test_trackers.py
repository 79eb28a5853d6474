"""TensorBoard and Weights & Biases get what the metrics file says, once, and change nothing about a run."""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from safetensors.torch import load_file

from glassgpt.errors import UserError
from glassgpt.files import write_json
from glassgpt.reading import read_json
from glassgpt.recipes import load_recipe, save_recipe
from glassgpt.runs import RunFolder, read_metrics
from glassgpt.training import session, trackers
from glassgpt.training.trackers import TensorBoard, WeightsAndBiases
from tests.conftest import SMALL, call, command
from tests.small_runs import QUIET, StopAt, recipe_for, same

NAMES = ["tensorboard", "wandb"]
Figures = dict[int, dict[str, float]]  # step, name, value


class Requests(BaseHTTPRequestHandler):
    """Answers nothing, and remembers what it was asked."""

    def do_POST(self) -> None:
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        self.send_error(500)

    do_GET = do_POST  # noqa: N815 - the library's name

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _an_untouched_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings from outside, nothing written elsewhere, its service ended."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("ERROR_REPORTING", "FINISH_TIMEOUT"):  # what is set on the way is taken back
        monkeypatch.setenv(f"WANDB_{name}", "")
        monkeypatch.delenv(f"WANDB_{name}")
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / ".wandb-home"))
    yield
    import wandb

    wandb.teardown()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What anyone asks of a server that stands for that of Weights & Biases."""
    server = HTTPServer(("127.0.0.1", 0), Requests)
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    yield server.seen  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def in_metrics(run: Path) -> Figures:
    rows = read_metrics(run / "metrics.jsonl")
    assert rows
    return {
        row["step"]: {name: value for name, value in row.items() if name != "step" and value is not None}
        for row in rows
    }


def in_tensorboard(run: Path) -> Figures:
    """What TensorBoard itself reads; a figure that came twice would be there twice."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    found = EventAccumulator(str(run / "tensorboard"), {SCALARS: 0}).Reload()
    figures: Figures = {}
    for name in found.Tags()[SCALARS]:
        for event in found.Scalars(name):
            assert name not in figures.setdefault(event.step, {}), (event.step, name)
            figures[event.step][name] = event.value
    return figures


def wandb_records(session: Path) -> Iterator[Any]:
    """The records of an offline session: protocol buffers in the log format of LevelDB, behind a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    (path,) = session.glob("*.wandb")
    data = path.read_bytes()
    position, content = 7, b""
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:
            position += left  # no header fits into the rest of a block
            continue
        size, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        content += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            content = b""
            yield record


def in_wandb(run: Path) -> Figures:
    """What all sessions would send; a step that came twice fails."""
    figures: Figures = {}
    ids = set()
    for folder in sorted((run / "wandb").glob("offline-run-*")):
        for record in wandb_records(folder):
            if record.WhichOneof("record_type") == "run":
                ids.add(record.run.run_id)
            if record.WhichOneof("record_type") == "history":
                items = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
                step = items.pop("_step")
                assert step not in figures
                figures[step] = {name: value for name, value in items.items() if not name.startswith("_")}
    assert ids == {read_json(run / "wandb" / "glassgpt.json", "note")["id"]}
    return figures


def assert_all_agree(run: Path, names: list[str] = NAMES) -> None:
    """TensorBoard keeps float32."""
    told = in_metrics(run)
    for found in ([in_tensorboard(run)] if "tensorboard" in names else []) + (
        [in_wandb(run)] if "wandb" in names else []
    ):
        assert found.keys() == told.keys()
        for step, figures in told.items():
            assert found[step] == pytest.approx(figures, rel=1e-6), step


# --- what is told ------------------------------------------------------------------------------------------------


def test_both_get_what_the_metrics_say_and_the_weights_stay_the_same(text_file: Path, tmp_path: Path) -> None:
    assert session.train(recipe_for(text_file), tmp_path / "alone", QUIET)
    assert session.train(recipe_for(text_file, training={"track": NAMES}), tmp_path / "watched", QUIET)
    assert_all_agree(tmp_path / "watched")
    for file in ("model.safetensors", "checkpoints/step-00000030/optimizer.safetensors"):
        assert same(load_file(tmp_path / "alone" / file), load_file(tmp_path / "watched" / file)), file
    assert not (tmp_path / "alone" / "tensorboard").exists()
    assert not (tmp_path / "alone" / "wandb").exists()


def test_wandb_gets_the_recipe_and_the_folders_name(text_file: Path, tmp_path: Path) -> None:
    session.train(recipe_for(text_file, training={"track": ["wandb"], "max_steps": 2}), tmp_path / "a run", QUIET)
    (folder,) = (tmp_path / "a run" / "wandb").glob("offline-run-*")
    (run,) = (record.run for record in wandb_records(folder) if record.WhichOneof("record_type") == "run")
    assert (run.project, run.display_name) == ("glassgpt", "a run")
    assert {"model", "training", "data"} <= {item.key for item in run.config.update}


@pytest.mark.slow
def test_no_network_unless_asked_for(text_file: Path, tmp_path: Path, asked: list[str]) -> None:
    """Until the process has ended: that is when it would report on itself."""
    done = command("train", "--data", text_file, "--out", tmp_path / "run", *SMALL, "--track", "wandb")
    assert done.returncode == 0
    assert b"wandb: offline; to send it, wandb sync" in done.stdout
    # Before 0.31, it warns that it has nothing to resume offline.
    said = [
        line for line in done.stderr.splitlines() if not line.startswith(b"wandb: WARNING `resume` will be ignored")
    ]
    assert not any(b"wandb" in line for line in said)
    assert_all_agree(tmp_path / "run", ["wandb"])
    assert asked == []


def test_the_command_line_has_a_short_form_and_the_recipe_keeps_it(
    text_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert call("train", "--data", text_file, "--out", run, *SMALL, "--track", "tensorboard") == 0
    assert f"tensorboard --logdir {run}" in capfd.readouterr().out
    assert load_recipe(str(run / "recipe.toml"), {}).training.track == ["tensorboard"]
    assert call("train", "--resume", run, "--training.max-steps", 14) == 0  # not asked for again
    assert_all_agree(run, ["tensorboard"])
    assert call("train", "--resume", run, "--training.max-steps", 16, "--track", "none") == 0
    assert max(in_tensorboard(run)) == 14
    assert max(in_metrics(run)) == 16


@pytest.mark.parametrize("words", [("--track", "tensorbord"), ("--training.track", "tensorbord")])
def test_an_unknown_tracker_is_refused(
    words: tuple[str, str], text_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call("train", "--data", text_file, "--out", tmp_path / "run", *SMALL, *words) == 2
    shown = capfd.readouterr().err
    assert len(shown.splitlines()) == 1
    assert "training.track" in shown and "'tensorboard' or 'wandb'" in shown
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_is_named_with_its_extra_before_anything_is_written(
    name: str,
    trained_run: Path,
    text_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda wanted: None if wanted == name else object())
    before = {path: path.read_bytes() for path in trained_run.rglob("*") if path.is_file()}
    for words in (
        ("--data", text_file, "--out", tmp_path / "run", *SMALL),
        ("--resume", trained_run, "--training.max-steps", 20),
    ):
        assert call("train", *words, "--track", name) == 2
        shown = capfd.readouterr()
        assert shown.err.splitlines() == [
            f'glassgpt: training.track: {name} is not installed: pip install "glassgpt[{name}]"'
        ]
        assert shown.out == ""
    assert not (tmp_path / "run").exists()
    assert {path: path.read_bytes() for path in trained_run.rglob("*") if path.is_file()} == before


# --- interruptions -----------------------------------------------------------------------------------------------


DYING = """
import os, sys
from glassgpt.cli.main import main
from glassgpt.training.trainer import Trainer

original, last = Trainer._step, int(sys.argv[1])
Trainer._step = lambda trainer: os._exit(9) if trainer.progress.step == last else original(trainer)
main(sys.argv[2:])
"""


def die_at(step: int, *words: object) -> None:
    """Run a command in a process that ends there, with no chance to close anything."""
    done = subprocess.run([sys.executable, "-c", DYING, str(step), *map(str, words)], capture_output=True, check=False)
    assert done.returncode == 9, done.stderr


@pytest.mark.slow
def test_nothing_is_told_twice_and_nothing_is_missing_after_kills(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, recipe = tmp_path / "run", tmp_path / "recipe.toml"
    save_recipe(recipe_for(text_file, training={"track": NAMES}), recipe)
    die_at(9, "train", recipe, "--out", run)
    assert in_tensorboard(run).keys() == in_metrics(run).keys()  # each line is on its way at once
    die_at(18, "train", "--resume", run)
    stop = StopAt(monkeypatch, [23])
    assert not session.resume(run, {}, QUIET)
    assert not stop.steps
    assert session.resume(run, {}, QUIET)
    assert sorted(in_metrics(run)) == [2, 4, 6, 7, 8, 10, 12, 14, 16, 18, 20, 21, 22, 24, 26, 28, 30]
    assert_all_agree(run)
    assert len(list((run / "tensorboard").iterdir())) == 2  # of four sessions
    assert len(list((run / "wandb").glob("offline-run-*"))) == 2  # those that were cut off are gone


def test_an_old_event_file_that_cannot_be_removed_does_no_harm(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, while a viewer has it open."""
    run = tmp_path / "run"
    stop = StopAt(monkeypatch, [8, 16])
    assert not session.train(recipe_for(text_file, training={"track": ["tensorboard"]}), run, QUIET)
    assert not session.resume(run, {}, QUIET)
    assert not stop.steps
    with monkeypatch.context() as patch:
        original = Path.unlink

        def unlink(path: Path, missing_ok: bool = False) -> None:
            if "tfevents" in path.name:
                raise PermissionError(path)
            original(path, missing_ok)

        patch.setattr(Path, "unlink", unlink)
        assert session.resume(run, {}, QUIET)
    assert len(list((run / "tensorboard").iterdir())) == 3
    assert_all_agree(run, ["tensorboard"])


def test_tracking_may_begin_in_the_middle(text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    StopAt(monkeypatch, [8])
    assert not session.train(recipe_for(text_file), tmp_path / "run", QUIET)
    assert session.resume(tmp_path / "run", {"training": {"track": NAMES}}, QUIET)
    assert_all_agree(tmp_path / "run")


def test_a_session_that_was_sent_before_it_was_cut_off_is_kept(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    StopAt(monkeypatch, [12])
    assert not session.train(recipe_for(text_file, training={"track": ["wandb"]}), run, QUIET)
    (sent,) = (run / "wandb").glob("offline-run-*")
    (sent / "run-x.wandb.synced").touch()
    note = run / "wandb" / "glassgpt.json"
    write_json(note, read_json(note, "note") | {"step": 0, "session": sent.name})  # as if it had not been closed
    assert session.resume(run, {}, QUIET)
    assert sent.exists()
    (new,) = set((run / "wandb").glob("offline-run-*")) - {sent}
    histories = [r.history for r in wandb_records(new) if r.WhichOneof("record_type") == "history"]
    assert histories[0].step.num == 14


class Server:
    """Stands for an online run: it knows how far it was told."""

    def __init__(self, starting_step: int):
        self.starting_step, self.offline, self.disabled, self.url = starting_step, False, False, "https://there"
        self.settings = SimpleNamespace(sync_dir="run-1-x")
        self.logged: list[int] = []

    def log(self, figures: dict[str, float], step: int) -> None:
        assert "train_loss" in figures
        self.logged.append(step)

    def finish(self, exit_code: int) -> None:
        assert exit_code == 0


@pytest.mark.parametrize(("starting_step", "logged"), [(0, [10, 20, 30]), (20, [20, 30]), (21, [30]), (31, [])])
def test_online_the_server_knows_how_far_it_was_told(
    starting_step: int, logged: list[int], trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    server = Server(starting_step)
    settings: dict[str, Any] = {}
    monkeypatch.setattr(wandb, "init", lambda **given: settings.update(given) or server)
    monkeypatch.setenv("WANDB_MODE", "online")
    rows = [{"step": step, "train_loss": 1.0, "val_loss": None} for step in (10, 20)]
    tracker = WeightsAndBiases(load_recipe("default", {}), RunFolder(tmp_path), rows, lambda _: None)
    tracker.log({"step": 30, "train_loss": 1.0, "val_loss": None})
    tracker.close(False)
    assert server.logged == logged
    assert (settings["mode"], settings["resume"]) == ("online", "allow")
    assert settings["id"] == read_json(tmp_path / "wandb" / "glassgpt.json", "note")["id"]
    assert "WANDB_ERROR_REPORTING" not in os.environ  # that is for the user to say


# --- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TensorBoard, WeightsAndBiases])
def test_a_tracker_that_fails_is_off_and_the_run_goes_on(
    kind: type, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = kind.log, []

    def log(tracker: Any, row: dict[str, Any]) -> None:
        calls.append(row["step"])
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        original(tracker, row)

    monkeypatch.setattr(kind, "log", log)
    shown = io.StringIO()
    recipe = recipe_for(text_file, training={"track": NAMES})
    assert session.train(recipe, tmp_path / "run", Console(file=shown, width=200))
    failed, other = NAMES if kind is TensorBoard else reversed(NAMES)
    warnings = [line for line in shown.getvalue().splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert failed in warnings[0] and "No space left on device" in warnings[0]
    assert len(calls) == 4
    assert_all_agree(tmp_path / "run", [other])


@pytest.mark.parametrize("name", NAMES)
def test_a_tracker_that_cannot_begin_is_off(
    name: str, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    StopAt(monkeypatch, [8])
    assert not session.train(recipe_for(text_file), tmp_path / "run", QUIET)
    (tmp_path / "run" / name).write_text("a file in the way", encoding="utf-8")
    shown = io.StringIO()
    assert session.resume(tmp_path / "run", {"training": {"track": [name]}}, Console(file=shown, width=200))
    assert shown.getvalue().count(f"warning: {name} failed and is off") == 1


def test_a_tracker_that_fails_at_the_end_is_told_of_once(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TensorBoard.close

    def close(tracker: TensorBoard, failed: bool) -> None:
        original(tracker, failed)
        raise OSError("the disk is gone")

    monkeypatch.setattr(TensorBoard, "close", close)
    shown = io.StringIO()
    recipe = recipe_for(text_file, training={"track": ["tensorboard"], "max_steps": 4})
    assert session.train(recipe, tmp_path / "run", Console(file=shown, width=200))
    assert shown.getvalue().count("warning") == 1
    assert "the disk is gone" in shown.getvalue()


def test_all_packages_of_trackers_are_there_for_the_tests() -> None:
    trackers.require_trackers(NAMES)
    with pytest.raises(UserError, match="not installed"):
        trackers.require_trackers(["no_such_package"])
