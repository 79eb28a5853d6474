"""What training writes: the names of the files in a run folder, who may write them, and reading them back."""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

from glassgpt import files
from glassgpt.data.opening import open_tokens
from glassgpt.data.sources import STDIN
from glassgpt.data.tokens import TokenFolder
from glassgpt.errors import UserError, reason
from glassgpt.files import replacing
from glassgpt.locks import FileLockedError, holding
from glassgpt.paths import as_word, expand
from glassgpt.reading import read_json_as, read_json_lines, read_toml
from glassgpt.recipes import MOST_BYTES, Recipe, save_recipe
from glassgpt.runs.schemas import FlowRow, MetricsRow, Summary
from glassgpt.tokenizers import Tokenizer, load_tokenizer


class RunFolder:
    """The names of what is in a run folder."""

    def __init__(self, path: Path | str):
        self.path = expand(path)
        self.recipe = self.path / "recipe.toml"
        self.tokenizer = self.path / "tokenizer.json"
        self.weights = self.path / "model.safetensors"
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"
        self.gradients = self.path / "gradients.jsonl"
        self.summary = self.path / "summary.json"
        self.summary_table = self.path / "summary.md"
        self.curves = self.path / "curves.png"
        self.samples = self.path / "samples.txt"
        self.tensorboard = self.path / "tensorboard"
        self.wandb = self.path / "wandb"
        self.input = self.path / "input.txt"  # what came from standard input, which cannot be read twice
        self.lock = self.path / ".lock"  # while someone trains in it; what a killed process leaves holds nothing
        self._locked: list[tuple[int, int] | None] = []  # who folder and lock were when this process took the lock

    def check_free(self) -> None:
        """Make sure that a new run may be made here.

        Raises:
            TakenError: something is there already.
        """
        if self.recipe.exists():
            raise TakenError(
                f"{self.path}: holds a run already: resume it with --resume {as_word(self.path)}, or choose another "
                "with --out"
            )
        if os.path.lexists(self.path) and not (self.path.is_dir() and all(map(self._is_begun, self.path.iterdir()))):
            raise TakenError(f"{self.path}: exists and is not an empty folder: choose another with --out")

    def _is_begun(self, path: Path) -> bool:
        """Whether this is what someone who was about to make a run, and was killed, has left beside the lock."""
        if path == self.checkpoints:
            is_ours = path.is_dir() and not any(path.iterdir())
        else:
            names = {file.name for file in (self.lock, self.input, self.tokenizer)}
            is_ours = path.is_file() and (path.name in names or files.is_temporary(path))
        return is_ours and self.lock.exists()

    def check_there(self) -> None:
        """Make sure that the folder still is there, and the one that was locked.

        Raises:
            UserError: someone has moved or removed it, and may have put another in its place.
        """
        if not (self._is_locked_one() and self.recipe.exists()):
            raise UserError(f"{self.path}: the run folder has been moved or removed while training: nothing is saved")

    def _is_locked_one(self) -> bool:
        """Whether folder and lock are those that were locked, if they were."""
        now = [files.identity(self.path), files.identity(self.lock) or self._locked[1]] if self._locked else []
        return now == self._locked

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from training in this folder. It is made if it is not there, and goes again if it stays empty.

        Within this context it may be entered again.

        Raises:
            TakenError: someone trains in it.
            UserError: it cannot be written.
        """
        try:
            if self._locked:
                yield
                return
            with ExitStack() as held:
                self._take(held)
                yield
        except FileLockedError:
            raise TakenError(f"{self.path}: another process is training in it: wait for it, or stop it first") from None
        except OSError as error:
            raise self._explained(error) from None

    def _take(self, held: ExitStack) -> None:
        held.callback(self._locked.clear)
        for tries_left in reversed(range(3)):
            try:
                held.enter_context(files.having_folder(self.path))
                held.enter_context(holding(self.lock))
                break
            except FileNotFoundError:  # another process has just let go of the folder, and removed it
                if not tries_left:
                    raise
        self._locked += [files.identity(self.path), files.identity(self.lock)]

    def _explained(self, error: OSError) -> OSError | UserError:
        """What to say of an error while this folder was locked; one about a file elsewhere is as it is."""
        named = None if error.filename is None else Path(os.fsdecode(error.filename))
        if named is not None and named != self.path and self.path not in named.parents:
            return error
        if not self.recipe.exists():  # a new run
            return UserError(f"{self.path}: cannot be written: {reason(error)}: choose another with --out")
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            return UserError(f"{self.path}: cannot be written: {reason(error)}: make it writable, or copy it")
        return UserError(f"{self.path}: {reason(error)}: what was saved before is as it was")

    def create(self, recipe: Recipe, tokenizer: Tokenizer, stdin: Path | None = None) -> None:
        """Write what a run begins with, in a folder that is locked. The recipe comes last: it makes it a run folder.

        Args:
            recipe: complete.
            tokenizer: the model's.
            stdin: a file with what came from standard input, to be kept, as that cannot be read twice.

        Raises:
            UserError: the folder holds something.
            OSError: what is to be in it cannot be written.
        """
        self.check_free()
        self._remove_begun()  # what a killed process left
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            if stdin is not None:
                with replacing(self.input) as temporary:
                    shutil.copyfile(stdin, temporary)
            tokenizer.save(self.tokenizer)
            save_recipe(recipe, self.recipe)
        except BaseException:
            self._remove_begun()
            raise  # `locked` says so

    def _remove_begun(self) -> None:
        """Remove what `create` made, and nothing else."""
        for file in (self.recipe, self.tokenizer, self.input, *filter(files.is_temporary, self.path.glob(".*.tmp"))):
            with suppress(OSError):
                file.unlink(missing_ok=True)
        with suppress(OSError):
            self.checkpoints.rmdir()  # if it is empty

    def remove(self) -> None:
        """Remove a run that this process made, and that came to nothing; what others put beside it stays.

        Whenever this is cut off, what is left is a run, or free for one.
        """
        if not self._is_locked_one():
            return
        for folder in (self.tensorboard, self.wandb):
            files.discard(folder)
        for file in (self.metrics, self.gradients, self.samples, self.weights):
            with suppress(OSError):
                file.unlink(missing_ok=True)
        self._remove_begun()

    def read_recipe(self) -> Recipe:
        """What the run was asked for.

        Raises:
            UserError: this is no run folder, or its recipe is damaged.
        """
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such run folder")
        if not self.recipe.exists():
            raise UserError(f"{self.path}: not a run folder (no recipe.toml in it)")
        return Recipe.parse(read_toml(self.recipe, "a run's recipe", MOST_BYTES), str(self.recipe))

    def read_tokenizer(self, recipe: Recipe) -> Tokenizer:
        """The run's tokenizer, made sure to be the one that it began with.

        Raises:
            UserError: its file is missing, damaged, or another one.
        """
        tokenizer = load_tokenizer(self.tokenizer)
        wanted = recipe.tokenizer.fingerprint
        if wanted is not None and tokenizer.fingerprint != wanted:
            raise UserError(
                f"{self.tokenizer}: not the tokenizer of this run (fingerprint {tokenizer.fingerprint}, in its recipe "
                f"{wanted}): bring back the old file"
            )
        return tokenizer

    def open_tokens(self, recipe: Recipe, tokenizer: Tokenizer) -> TokenFolder:
        """The text of a run in tokens, made sure to be the same as when it began.

        Raises:
            UserError: the text is gone or has changed.
        """
        if STDIN in recipe.data.source and not self.input.is_file():
            raise UserError(f"{self.input}: the text that came from standard input is gone")
        return open_tokens(recipe.data, tokenizer, stdin=self.input)


class TakenError(UserError):
    """A run cannot be made in this folder: something is there already, or someone trains in it."""


@contextmanager
def reserve(name: str, parent: Path = Path("runs")) -> Iterator[RunFolder]:
    """Hold the first of runs/NAME, runs/NAME-2, … that is free, so that no other process takes it meanwhile.

    It is made, and goes again if nothing comes to be in it.

    Raises:
        UserError: it cannot be made.
    """
    for number in count(1):
        folder = RunFolder(parent / (name if number == 1 else f"{name}-{number}"))
        with ExitStack() as held:
            try:
                folder.check_free()
                held.enter_context(folder.locked())
                folder.check_free()  # again: someone may have been there in between
            except TakenError:
                continue
            yield folder
            return


def read_metrics(path: Path) -> list[MetricsRow]:
    """The lines of a metrics file, none if it is not there; a last line that a crash cut short is left out.

    Raises:
        UserError: another line is damaged, or the file cannot be read.
    """
    return whole_rows(path, read_json_lines(path, "metrics", MetricsRow))


Row = TypeVar("Row", MetricsRow, FlowRow)


def whole_rows(path: Path, rows: Sequence[Row | None]) -> list[Row]:
    """The rows of a file, one for each line, made sure that none is damaged and that their steps do not fall.

    Raises:
        UserError: one is damaged.
    """
    whole: list[Row] = []
    for number, row in enumerate(rows, 1):
        if row is None or (whole and row["step"] < whole[-1]["step"]):
            raise UserError(f"{path}: damaged: line {number}: fix it, or remove the line")
        whole.append(row)
    return whole


def read_summary(folder: RunFolder) -> Summary | None:
    """The summary that training wrote at its end; None if there is none yet.

    Raises:
        UserError: it is damaged, or cannot be read.
    """
    if not os.path.lexists(folder.summary):
        return None
    return read_json_as(folder.summary, "a run's summary", Summary)
