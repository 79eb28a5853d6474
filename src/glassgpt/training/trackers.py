"""TensorBoard and Weights & Biases: they get each line of the metrics file, under the same names."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal, Protocol, TypeVar, cast

from glassgpt.errors import UserError, shorten
from glassgpt.files import check_no_file, write_json
from glassgpt.paths import as_word
from glassgpt.reading import read_json_as
from glassgpt.recipes import Recipe
from glassgpt.runs import RunFolder
from glassgpt.runs.schemas import TrackerNote

Row = Mapping[str, Any]
Result = TypeVar("Result")
OFFLINE = "offline-run-*"  # how wandb names the folder of a session


class Tracker(Protocol):
    """What is told of a run's figures. Whatever it raises ends the tracking, not the run."""

    def log(self, row: Row) -> None:
        """Note a line of the metrics file."""

    def close(self, failed: bool) -> None:
        """Write what is held and let go of all. `failed`: the run ended with an error."""


def require_trackers(names: Sequence[str]) -> None:
    """Make sure that the packages of these trackers are there.

    Raises:
        UserError: one is not installed.
    """
    for name in names:
        if find_spec(name) is None:
            raise UserError(f'training.track: {name} is not installed: pip install "glassgpt[{name}]"')


class Trackers:
    """The trackers that a recipe asks for. Use it as a context manager, and call it with each line of the metrics file.

    One that fails is named in one line and left out from there on: a run is worth more than its pictures.

    Args:
        recipe: of the run, complete.
        folder: of the run.
        rows: of the metrics file, up to the step that the run goes on from. What was tracked of them is kept, and what
            was not is caught up on: so tracking may begin in the middle of a run.
        tell: shows a line of text.
    """

    def __init__(self, recipe: Recipe, folder: RunFolder, rows: Sequence[Row], tell: Callable[[str], None]):
        self._tell = tell
        self._trackers: dict[str, Tracker] = {}
        for name in dict.fromkeys(recipe.training.track):
            tracker = self._try(name, TRACKERS[name], recipe, folder, rows, tell)
            if tracker is not None:
                self._trackers[name] = tracker

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for name in list(self._trackers):
            self._try(name, self._trackers.pop(name).close, kind is not None)

    def __call__(self, row: Row) -> None:
        """Pass a line of the metrics file on."""
        for name, tracker in list(self._trackers.items()):
            self._try(name, tracker.log, row)

    def _try(self, name: str, action: Callable[..., Result], *arguments: Any) -> Result | None:
        try:
            return action(*arguments)
        except Exception as error:  # whatever another project's code comes up with
            why = " ".join(str(error).split()) or type(error).__name__
            self._tell(f"warning: {name} failed and is off from here on, the run goes on: {shorten(why, 500)}")
            broken = self._trackers.pop(name, None)
            if broken is not None:
                with suppress(Exception):
                    broken.close(True)
            return None


class TensorBoard:
    """Writes RUN/tensorboard/, the metrics file in TensorBoard's format.

    It is written anew when a run goes on, so that it always says what the metrics file says. Each row is on its way to
    the disk before the next step: `torch.utils.tensorboard.SummaryWriter` leaves that to a thread, which would lose
    rows to a kill and answer a full disk with a traceback. The record writer below is what that one uses.
    """

    def __init__(self, _recipe: Recipe, folder: RunFolder, rows: Sequence[Row], tell: Callable[[str], None]):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event = Event
        check_no_file(folder.tensorboard)
        folder.tensorboard.mkdir(exist_ok=True)
        old = sorted(folder.tensorboard.glob("events.out.tfevents.*"))
        now = time.time()
        # A reader takes files in the order of their names.
        path = folder.tensorboard / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._writer = RecordWriter(path.open("wb"))
        self._write(Event(wall_time=now, file_version="brain.Event:2"))
        # A viewer that is open forgets what it knows, and has it told again.
        self._write(Event(wall_time=now, step=0, session_log=SessionLog(status=SessionLog.START)))
        for row in rows:
            self._log(row, now - (rows[-1].get("seconds", 0.0) - row.get("seconds", 0.0)))
        self._writer.flush()
        for outdated in old[:-1]:  # a viewer may be at the last one, and finds the next by it
            with suppress(OSError):  # Windows keeps what is open
                outdated.unlink()
        tell(f"tensorboard: to watch, tensorboard --logdir {as_word(folder.path)}")

    def log(self, row: Row) -> None:
        """Write a row's figures."""
        self._log(row, time.time())
        self._writer.flush()

    def close(self, failed: bool) -> None:
        """Close the file."""
        self._writer.close()

    def _log(self, row: Row, wall_time: float) -> None:
        event = self._event(wall_time=wall_time, step=row["step"])
        for name, value in _figures(row).items():
            event.summary.value.add(tag=name, simple_value=value)
        self._write(event)

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())


class WeightsAndBiases:
    """Logs to Weights & Biases, into RUN/wandb/ and, if WANDB_MODE is online, over the network.

    RUN/wandb/glassgpt.json keeps the run's id, so that a run that goes on is the same one there, and what is already
    told, so that no line is missing there or comes twice. Online, the server knows. Offline, each session has a folder;
    one that a kill cut off lacks its last seconds, so it is removed, and the next session tells its lines again.
    """

    def __init__(self, recipe: Recipe, folder: RunFolder, rows: Sequence[Row], tell: Callable[[str], None]):
        mode = cast(Literal["online", "offline", "disabled", "shared"], os.environ.get("WANDB_MODE") or "offline")
        if mode != "online":  # offline, too, it would report on itself over the network
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault(
            "WANDB_FINISH_TIMEOUT", "300"
        )  # seconds: at the end, it would wait for a network for ever
        import wandb

        check_no_file(folder.wandb)
        folder.wandb.mkdir(exist_ok=True)
        self._note = folder.wandb / "glassgpt.json"
        known: TrackerNote = {"id": token_hex(4), "step": 0, "session": None}
        if os.path.lexists(self._note):
            known = read_json_as(self._note, "what wandb was told (remove it to begin anew there)", TrackerNote)
        self._id, self._step = known["id"], known["step"]
        cut_off = folder.wandb / Path(str(known["session"])).name
        if list(cut_off.glob("*.synced")):  # too late: the server has most of it
            self._step = rows[-1]["step"] if rows else 0
        elif cut_off.match(OFFLINE) and cut_off.is_dir():
            shutil.rmtree(cut_off)
        self._run = wandb.init(
            dir=folder.path,
            id=self._id,
            resume="allow",
            mode=mode,
            project=os.environ.get("WANDB_PROJECT") or "glassgpt",
            name=os.environ.get("WANDB_NAME") or folder.path.resolve().name,
            config=recipe.model_dump(mode="json", exclude_none=True),
            allow_val_change=True,  # a run may go on with more steps
            reinit="create_new",  # one that the caller has open stays open
            settings=wandb.Settings(console="off", silent=True),  # the terminal is ours
        )
        if not self._run.offline:
            self._step = self._run.starting_step - 1
        self._write_note(Path(self._run.settings.sync_dir).name)  # told by it so far: nothing
        for row in rows:
            self.log(row)
        offline = f"offline; to send it, wandb sync {as_word(folder.wandb)}/{OFFLINE}"
        tell(f"wandb: {offline if self._run.offline else self._run.url or 'disabled'}")

    def log(self, row: Row) -> None:
        """Log a row's figures, unless they were before."""
        if row["step"] > self._step and not self._run.disabled:
            self._run.log(_figures(row), step=row["step"])
            self._step = row["step"]

    def close(self, failed: bool) -> None:
        """End the session; the run can go on in another one."""
        self._run.finish(exit_code=int(failed))
        self._write_note(None)

    def _write_note(self, session: str | None) -> None:
        """Keep how far the sessions that have ended told; `session` is the one that has not."""
        note: TrackerNote = {"id": self._id, "step": self._step, "session": session}
        write_json(self._note, note)


TRACKERS: dict[str, Callable[[Recipe, RunFolder, Sequence[Row], Callable[[str], None]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def _figures(row: Row) -> dict[str, float]:
    """What a row says, by name; the step is the axis, and what was not measured is left out."""
    return {name: value for name, value in row.items() if name != "step" and type(value) in (int, float)}
