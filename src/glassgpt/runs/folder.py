"""A run folder: names of its files, the lock that protects it, and functions to read it."""

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
    """A run folder: the paths of its files, its lock, creating, reading and removing it."""

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
        self.input = self.path / "input.txt"  # copy of standard input, which cannot be read twice
        self.lock = self.path / ".lock"  # held while training; a stale lock file blocks no one
        self._locked: list[tuple[int, int] | None] = []  # identities of folder and lock when this process took the lock

    def check_free(self) -> None:
        """Make sure that a new run can be created here.

        Raises:
            TakenError: the path exists and is not an empty folder.
        """
        if self.recipe.exists():
            raise TakenError(
                f"{self.path}: holds a run already: resume it with --resume {as_word(self.path)}, or choose another "
                "with --out"
            )
        if os.path.lexists(self.path) and not (self.path.is_dir() and all(map(self._is_begun, self.path.iterdir()))):
            raise TakenError(f"{self.path}: exists and is not an empty folder: choose another with --out")

    def _is_begun(self, path: Path) -> bool:
        """Whether a path is a leftover of a process that was killed while it created a run here."""
        if path == self.checkpoints:
            is_ours = path.is_dir() and not any(path.iterdir())
        else:
            names = {file.name for file in (self.lock, self.input, self.tokenizer)}
            is_ours = path.is_file() and (path.name in names or files.is_temporary(path))
        return is_ours and self.lock.exists()

    def check_there(self) -> None:
        """Make sure that the folder still exists and is the one that was locked.

        Raises:
            UserError: the folder was moved, removed or replaced.
        """
        if not (self._is_locked_one() and self.recipe.exists()):
            raise UserError(f"{self.path}: the run folder has been moved or removed while training: nothing is saved")

    def _is_locked_one(self) -> bool:
        """Whether folder and lock are those that this process locked; true if it locked nothing."""
        now = [files.identity(self.path), files.identity(self.lock) or self._locked[1]] if self._locked else []
        return now == self._locked

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder. Create it if missing; remove it again if it stays empty.

        This context can be nested.

        Raises:
            TakenError: another process is training in it.
            UserError: the folder cannot be written.
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
            except FileNotFoundError:  # another process has just unlocked the folder and removed it
                if not tries_left:
                    raise
        self._locked += [files.identity(self.path), files.identity(self.lock)]

    def _explained(self, error: OSError) -> OSError | UserError:
        """The error to raise for one that occurred under the lock; errors about other files stay unchanged."""
        if error.filename is not None:
            named, here = (Path(os.fsdecode(name)).absolute() for name in (error.filename, self.path))
            if here not in (named, *named.parents):
                return error
        if not self.recipe.exists():  # a new run
            return UserError(f"{self.path}: cannot be written: {reason(error)}: choose another with --out")
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            return UserError(f"{self.path}: cannot be written: {reason(error)}: make it writable, or copy it")
        return UserError(f"{self.path}: {reason(error)}: what was saved before is as it was")

    def create(self, recipe: Recipe, tokenizer: Tokenizer, stdin: Path | None = None) -> None:
        """Write the first files of a run into the locked folder. The recipe comes last: it marks a run folder.

        Args:
            recipe: complete recipe.
            tokenizer: tokenizer of the model.
            stdin: file with a copy of standard input, to be kept because standard input cannot be read twice.

        Raises:
            UserError: the folder is not empty.
            OSError: a file cannot be written.
        """
        self.check_free()
        self._remove_begun()  # leftovers of a killed process
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            if stdin is not None:
                with replacing(self.input) as temporary:
                    shutil.copyfile(stdin, temporary)
            tokenizer.save(self.tokenizer)
            save_recipe(recipe, self.recipe)
        except BaseException:
            self._remove_begun()
            raise  # `locked` turns it into a message

    def _remove_begun(self) -> None:
        """Remove the files that `create` wrote, and nothing else."""
        for file in (self.recipe, self.tokenizer, self.input, *filter(files.is_temporary, self.path.glob(".*.tmp"))):
            with suppress(OSError):
                file.unlink(missing_ok=True)
        with suppress(OSError):
            self.checkpoints.rmdir()  # if it is empty

    def remove(self) -> None:
        """Remove a failed run that this process created. Files of others in the folder stay.

        If this is interrupted, the folder is still a run, or free for a new one.
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
        """The recipe of the run.

        Raises:
            UserError: this is not a run folder, or its recipe is damaged.
        """
        if not os.path.isdir(self.path):  # noqa: PTH112 - False for a name that no folder can have
            raise UserError(f"{self.path}: no such run folder")
        if not self.recipe.exists():
            raise UserError(f"{self.path}: not a run folder (no recipe.toml in it)")
        return Recipe.parse(read_toml(self.recipe, "a run's recipe", MOST_BYTES), str(self.recipe))

    def read_tokenizer(self, recipe: Recipe) -> Tokenizer:
        """The run's tokenizer, checked against the fingerprint in the recipe.

        Raises:
            UserError: the file is missing, damaged, or holds another tokenizer.
        """
        tokenizer = load_tokenizer(self.tokenizer)
        wanted = recipe.tokenizer.fingerprint
        if wanted is not None and tokenizer.fingerprint != wanted:
            raise UserError(
                f"{self.tokenizer}: not the tokenizer of this run (fingerprint {tokenizer.fingerprint}, in its recipe "
                f"{wanted}): restore the old file"
            )
        return tokenizer

    def open_tokens(self, recipe: Recipe, tokenizer: Tokenizer) -> TokenFolder:
        """The tokenized text of the run, checked to be unchanged since the run began.

        Raises:
            UserError: the text is missing or has changed.
        """
        if STDIN in recipe.data.source and not self.input.is_file():
            raise UserError(f"{self.input}: the text from standard input is missing")
        return open_tokens(recipe.data, tokenizer, stdin=self.input)


class TakenError(UserError):
    """A run cannot be created in this folder: it is not empty, or another process is training in it."""


@contextmanager
def reserve(name: str, parent: Path = Path("runs")) -> Iterator[RunFolder]:
    """Lock the first free folder of runs/NAME, runs/NAME-2, …, so that no other process takes it meanwhile.

    The folder is created, and removed again if it stays empty.

    Raises:
        UserError: the folder cannot be created.
    """
    for number in count(1):
        folder = RunFolder(parent / (name if number == 1 else f"{name}-{number}"))
        with ExitStack() as held:
            try:
                folder.check_free()
                held.callback(_remove_if_empty, folder.path)  # even if another process created it
                held.enter_context(folder.locked())
                folder.check_free()  # again: another process may have used it in between
            except TakenError:
                continue
            yield folder
            return


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def read_metrics(path: Path) -> list[MetricsRow]:
    """The rows of a metrics file; empty if the file is missing. A last line that a crash cut short is ignored.

    Raises:
        UserError: another line is damaged, or the file cannot be read.
    """
    return whole_rows(path, read_json_lines(path, "metrics", MetricsRow))


Row = TypeVar("Row", MetricsRow, FlowRow)


def whole_rows(path: Path, rows: Sequence[Row | None]) -> list[Row]:
    """The rows of a file, one per line, after checking that none is damaged and that steps never decrease.

    Raises:
        UserError: a row is damaged, or its step is below the one before.
    """
    whole: list[Row] = []
    for number, row in enumerate(rows, 1):
        if row is None or (whole and row["step"] < whole[-1]["step"]):
            raise UserError(f"{path}: damaged: line {number}: fix it, or remove the line")
        whole.append(row)
    return whole


def read_summary(folder: RunFolder) -> Summary | None:
    """The summary that training wrote at its end; None if it does not exist yet.

    Raises:
        UserError: the summary is damaged, or cannot be read.
    """
    if not os.path.lexists(folder.summary):
        return None
    return read_json_as(folder.summary, "a run's summary", Summary)
