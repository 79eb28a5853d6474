"""What watches a run: the best weights, samples, checkpoints, and what stops it early. (Files of rows: `row_files`.)

A listener is called with each event of the loop; it does not change the loop but by `trainer.stop`.
"""

import stat
import warnings
from collections.abc import Callable

from glassgpt.files import sync_file, write_text
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.text import generate_text
from glassgpt.recipes import Recipe
from glassgpt.runs import RunFolder
from glassgpt.tensor_files import save_tensors
from glassgpt.tokenizers import Tokenizer
from glassgpt.training.checkpoints import save_checkpoint
from glassgpt.training.history import SAMPLE_HEAD
from glassgpt.training.trainer import Checkpoint, Evaluation, Event, Pause, Step, Trainer

Listener = Callable[[Event], None]


def check_folder(folder: RunFolder) -> Listener:
    """Ends the run, before anything is saved, where its folder is gone or another run's by now."""

    def listen(event: Event) -> None:
        if not isinstance(event, Step):
            folder.check_there()

    return listen


def keep_best_weights(trainer: Trainer, folder: RunFolder) -> Listener:
    """Saves model.safetensors at each new best; where nothing is evaluated (yet), at each checkpoint."""

    def listen(event: Event) -> None:
        is_best = isinstance(event, Evaluation) and event.is_best
        if is_best or (isinstance(event, Checkpoint) and not trainer.progress.best_step):
            save_tensors(trainer.model.state_dict(), folder.weights)

    return listen


def save_checkpoints(trainer: Trainer, folder: RunFolder, recipe: Recipe) -> Listener:
    """Saves a checkpoint whenever the loop says so."""

    def listen(event: Event) -> None:
        if isinstance(event, Checkpoint):
            folder.check_there()
            save_checkpoint(trainer, folder.checkpoints, trainer.config.keep_checkpoints, recipe)

    return listen


class Samples:
    """Writes a text at each evaluation (or when it would be time for one) and adds it to samples.txt.

    Sampling has a random stream of its own, so it changes nothing about the training.

    Args:
        trainer: of the run.
        folder: of the run.
        tokenizer: of the run.
        config: how to sample.
        block_size: of the model.
        before: the samples of earlier steps, as samples.txt has them.

    Attributes:
        latest: the newest sample, prompt included.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: RunFolder,
        tokenizer: Tokenizer,
        config: SamplingConfig,
        block_size: int,
        before: str = "",
    ):
        self._trainer, self._folder, self._tokenizer = trainer, folder, tokenizer
        self._config, self._block_size = config, block_size
        self._text = before
        self.latest = SAMPLE_HEAD.split(before)[-1].strip("\n")
        write_text(folder.samples, before)

    def __call__(self, event: Event) -> None:
        """Write a sample if it is time."""
        trainer = self._trainer
        if not isinstance(event, Evaluation | Pause):
            return
        prompt = self._config.prompt
        assert prompt is not None
        written = generate_text(
            trainer.model, self._tokenizer, prompt, self._config, block_size=self._block_size, seed=trainer.config.seed
        )
        self.latest = prompt + written.text
        path, added = self._folder.samples, f"----- step {event.step} -----\n{_without_heads(self.latest)}\n"
        added = added.encode("utf-8", errors="replace").decode("utf-8")
        is_whole = self._is_whole()
        self._text += added
        if is_whole:
            with path.open("a", encoding="utf-8", newline="") as file:
                file.write(added)
            sync_file(path)
        else:
            warnings.warn(f"{path}: removed or changed while training: written again", stacklevel=2)
            write_text(path, self._text)

    def _is_whole(self) -> bool:
        """Whether the file still holds what was written to it, as far as its size tells."""
        try:
            found = self._folder.samples.stat()
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == len(self._text.encode("utf-8"))


def _without_heads(sample: str) -> str:
    """A sample without lines that look as if another one began."""
    return SAMPLE_HEAD.sub(r" \g<0>", sample)


def stop_early(trainer: Trainer) -> Listener:
    """Stops when the patience for a better validation loss, or the time, is used up.

    Patience may have been used up before: a run that was killed just then ends where it would have ended.
    """
    patience, max_seconds = trainer.config.patience, trainer.config.max_seconds
    began = trainer.progress.seconds

    def look() -> None:
        if patience is not None and trainer.progress.without_improvement >= patience:
            trainer.stop(f"no better validation loss in {patience} evaluations")

    def listen(event: Event) -> None:
        if isinstance(event, Evaluation):
            look()
        if isinstance(event, Step) and max_seconds is not None and event.seconds - began >= max_seconds:
            trainer.stop(f"training.max_seconds ({max_seconds:g}) used up")

    look()
    return listen
