"""Checkpoints: folders that are complete or not there, the newest first when one is looked for."""

import shutil
from collections.abc import Callable
from pathlib import Path

from glassgpt.errors import UserError
from glassgpt.files import creating_folder, read_json, write_json
from glassgpt.runs import load_tensors, save_tensors
from glassgpt.training.trainer import Trainer

VERSION = 1


def save_checkpoint(trainer: Trainer, folder: Path, keep: int) -> Path:
    """Write all that going on takes into `folder/step-…`, then remove all but the `keep` newest."""
    model, optimizer, counters = trainer.state()
    path = folder / f"step-{trainer.progress.step:08d}"
    with creating_folder(path) as temporary:
        save_tensors(model, temporary / "model.safetensors")
        save_tensors(optimizer, temporary / "optimizer.safetensors")
        write_json(temporary / "state.json", {"version": VERSION, **counters})
    for old in [other for other in list_checkpoints(folder) if other != path][keep - 1 :]:
        shutil.rmtree(old)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def load_newest_checkpoint(trainer: Trainer, folder: Path, tell: Callable[[str], None]) -> None:
    """Let a trainer go on from the newest checkpoint that is whole; `tell` is told of each one that is not.

    Where there is none yet, the trainer stays at its first step, which is the same as going on.

    Raises:
        UserError: there are some, but none can be read, or it was written by a newer glassgpt.
    """
    checkpoints = list_checkpoints(folder)
    for path in checkpoints:
        try:
            _load(trainer, path)
        except _NewerError:
            raise
        except UserError as error:
            tell(f"{error}: trying the checkpoint before it")
        else:
            for damaged in checkpoints[: checkpoints.index(path)]:
                shutil.rmtree(damaged)  # the run passes there again
            return
    if checkpoints:
        raise UserError(f"{folder.parent}: none of the checkpoints can be read: begin again with another --out")


class _NewerError(UserError):
    """A checkpoint from a newer glassgpt: older ones are no way out."""


def _load(trainer: Trainer, path: Path) -> None:
    state = read_json(path / "state.json", "a checkpoint's state")
    version = state.get("version")
    if isinstance(version, int) and version > VERSION:
        raise _NewerError(
            f"{path}: written by a newer glassgpt (format {version}, this one reads {VERSION}): update it"
        )
    tensors = [load_tensors(path / f"{name}.safetensors") for name in ("model", "optimizer")]
    try:
        trainer.load_state(tensors[0], tensors[1], state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a checkpoint of this model: {reason}") from None
