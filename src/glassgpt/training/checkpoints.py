"""Checkpoints: folders that are complete or not there, the newest first when one is looked for."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, cast

from pydantic import ConfigDict
from typing_extensions import TypedDict

from glassgpt.errors import DamagedError, UserError, reason
from glassgpt.files import creating_folder, remove_folder, replacing, write_json
from glassgpt.paths import as_word
from glassgpt.reading import checked, read_json, sha256_of
from glassgpt.recipes import Recipe
from glassgpt.runs.schemas import Scaler
from glassgpt.tensor_files import check_tensors, load_tensors, save_tensors

if TYPE_CHECKING:
    from glassgpt.training.trainer import Trainer

VERSION = 1
TENSOR_FILES = ("model.safetensors", "optimizer.safetensors")
STATE_FILE = "state.json"


def save_checkpoint(trainer: "Trainer", folder: Path, keep: int, recipe: Recipe | None = None) -> Path:
    """Write all that going on takes into `folder/step-…`, then remove all but the `keep` newest and the best.

    Args:
        trainer: as it is.
        folder: of the checkpoints.
        keep: how many of the newest stay; that of the best evaluation stays, too.
        recipe: what the checkpoint is made with, noted in it, so that a later change is noticed.
    """
    model, optimizer, counters = trainer.state()
    path = _path(folder, trainer.progress.step)
    with creating_folder(path) as temporary:
        save_tensors(model, temporary / "model.safetensors")
        save_tensors(optimizer, temporary / "optimizer.safetensors")
        made_with = recipe.model_dump(mode="json") if recipe else None
        digests = {name: sha256_of(temporary / name) for name in TENSOR_FILES}
        state = {"version": VERSION, **counters, "recipe": made_with}
        write_json(temporary / STATE_FILE, {**state, "sha256": {**digests, STATE_FILE: _digest(state)}})
    prune_checkpoints(trainer, folder, keep)
    return path


def prune_checkpoints(trainer: "Trainer", folder: Path, keep: int) -> None:
    """Remove all checkpoints but the one that the trainer is at, the `keep` newest, and the best."""
    now, best = (_path(folder, step) for step in (trainer.progress.step, trainer.progress.best_step))
    for old in [other for other in list_checkpoints(folder) if other != now][keep - 1 :]:
        if old != best:
            remove_folder(old)


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def recipe_of_newest(folder: Path) -> dict[str, Any] | None:
    """What the newest checkpoint was made with, section by section; None if there is none that can be read."""
    for path in list_checkpoints(folder):
        with suppress(UserError):
            made_with = _read_state(path).get("recipe")
            if made_with is not None:
                return made_with
    return None


def restore_best_weights(trainer: "Trainer", folder: Path, weights: Path) -> Path | None:
    """Let `weights` be the best so far, as far as the trainer knows: those on the disk may be later ones, or gone.

    Where nothing has been evaluated, they are those that the trainer is at.

    Returns:
        The checkpoint that they were taken from; None if they were right, or that one is gone or damaged.
    """
    checkpoint = _path(folder, trainer.progress.best_step or trainer.progress.step)
    best = checkpoint / "model.safetensors"
    with suppress(DamagedError):  # of the checkpoint: then those on the disk are the better ones
        wanted = sha256_of(best)
        with suppress(DamagedError):  # of the weights: gone, or something else
            if sha256_of(weights) == wanted:
                return None
        _check_digests(checkpoint, _read_state(checkpoint))
        check_tensors("the model's", load_tensors(best), trainer.model.state_dict())
        with replacing(weights) as temporary:
            shutil.copyfile(best, temporary)
        return checkpoint
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first. What has another name, such as a copy that someone made, is none."""
    found = {path: step for path in folder.glob("step-*") if (step := step_of(path)) is not None and path.is_dir()}
    return sorted(found, key=found.__getitem__, reverse=True)


def step_of(path: Path) -> int | None:
    """The step that a checkpoint's name says; None if that is not the name of one."""
    digits = re.fullmatch(r"step-([0-9]{8,})", path.name)
    return int(digits[1]) if digits and path == _path(path.parent, int(digits[1])) else None


def load_newest_checkpoint(trainer: "Trainer", folder: Path, tell: Callable[[str], None]) -> list[Path]:
    """Let a trainer go on from the newest checkpoint that is whole; `tell` is told of each one that is damaged.

    Where there is none yet, the trainer stays at its first step, which is the same as going on.

    Returns:
        Those that are damaged, which the run will pass again.

    Raises:
        UserError: there are some, but all are damaged, or it cannot be read just now, or a newer glassgpt wrote it.
    """
    damaged: list[Path] = []
    for path in list_checkpoints(folder):
        try:
            _load(trainer, path)
        except DamagedError as error:
            tell(f"{error}: trying the checkpoint before it")
            damaged.append(path)
        else:
            return damaged
    if damaged:
        raise UserError(f"{folder}: all checkpoints are damaged: {advice_to_begin_anew(folder.parent)}")
    return []


def advice_to_begin_anew(run: Path) -> str:
    """What to do about a run that cannot go on."""
    return f"bring back the old files, or begin a new run: glassgpt train {as_word(run / 'recipe.toml')}"


def _load(trainer: "Trainer", path: Path) -> None:
    state = _read_state(path)
    _check_digests(path, state)
    tensors = [load_tensors(path / name) for name in TENSOR_FILES]
    try:
        trainer.load_state(tensors[0], tensors[1], {"progress": state["progress"], "scaler": state["scaler"]})
    except ValueError as error:
        raise DamagedError(f"{path}: not a checkpoint of this model: {reason(error)}") from None


class State(TypedDict):
    """What state.json holds. Older checkpoints have no digests, and no recipe."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    version: int
    progress: dict[str, Any]  # `events.Progress`
    scaler: dict[str, Any]  # `runs.schemas.Scaler`
    recipe: NotRequired[dict[str, Any] | None]
    sha256: NotRequired[dict[str, str]]


def _read_state(path: Path) -> State:
    """A checkpoint's state, made sure to be what was written.

    Raises:
        DamagedError: it is not, or not that of this step.
        UserError: a newer glassgpt wrote it.
    """
    from glassgpt.training.events import Progress

    file = path / STATE_FILE
    raw = read_json(file, "a checkpoint's state")
    version = raw.get("version")
    if type(version) is int and version > VERSION:
        raise UserError(f"{path}: written by a newer glassgpt (format {version}, this one reads {VERSION}): update it")
    digests = raw.get("sha256") or {}
    own = _digest({name: value for name, value in raw.items() if name != "sha256"})
    if not isinstance(digests, dict) or digests.get(STATE_FILE, own) != own:
        raise DamagedError(f"{file}: damaged: its SHA-256 differs")
    try:
        state = checked(raw, State)
        progress = Progress.parse(state["progress"])
        checked(state["scaler"], cast(type[Scaler], Scaler))
    except ValueError as error:
        raise DamagedError(f"{file}: damaged: {reason(error)}") from None
    if progress.step != step_of(path):
        raise DamagedError(f"{file}: damaged: it is about step {progress.step}")
    return state


def _digest(state: dict[str, Any]) -> str:
    """The SHA-256 of what a state says, however it is laid out in its file."""
    return hashlib.sha256(json.dumps(state, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def _check_digests(path: Path, state: State) -> None:
    """Make sure that the tensors are those that were written; older checkpoints do not say which those are.

    Raises:
        DamagedError: they are not.
    """
    digests = state.get("sha256")
    if digests is None:
        return
    for name in TENSOR_FILES:
        if sha256_of(path / name) != digests.get(name):
            raise DamagedError(f"{path / name}: damaged: its SHA-256 differs")
