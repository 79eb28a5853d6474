"""What training writes: the names of the files in a run folder, who may write them, and reading them back."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from glassgpt import files
from glassgpt.data.opening import open_tokens
from glassgpt.data.sources import STDIN
from glassgpt.data.tokens import TokenFolder
from glassgpt.errors import UserError
from glassgpt.files import holding, replacing
from glassgpt.paths import expand
from glassgpt.reading import read_json_lines, read_toml
from glassgpt.recipes import Recipe, save_recipe
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
            UserError: something is there already.
        """
        if self.recipe.exists():
            raise UserError(
                f"{self.path}: holds a run already: go on with --resume {self.path}, or choose another with --out"
            )
        if self.path.exists() and not (self.path.is_dir() and all(map(self._is_begun, self.path.iterdir()))):
            raise UserError(f"{self.path}: exists and is not an empty folder: choose another with --out")

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
        now = [files.identity(self.path), files.identity(self.lock) or self._locked[1]] if self._locked else []
        if now != self._locked or not self.recipe.exists():
            raise UserError(f"{self.path}: the run folder has been moved or removed while training: nothing is saved")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from training in this folder. It is made if it is not there, and goes again if it stays empty.

        Raises:
            UserError: someone trains in it, or it cannot be written.
        """
        try:
            with files.having_folder(self.path), holding(self.lock):
                self._locked = [files.identity(self.path), files.identity(self.lock)]
                yield
        except files.FileLockedError:
            raise UserError(f"{self.path}: another process is training in it: wait for it, or stop it first") from None
        except OSError as error:
            reason = error.strerror or error
            if not self.recipe.exists():  # a new run
                raise UserError(f"{self.path}: cannot be written: {reason}: choose another with --out") from None
            if isinstance(error, PermissionError) or error.errno == errno.EROFS:
                raise UserError(f"{self.path}: cannot be written: {reason}: make it writable, or copy it") from None
            raise UserError(f"{self.path}: {reason}: what was saved before is as it was") from None

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
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            if stdin is not None:
                with replacing(self.input) as temporary:
                    shutil.copyfile(stdin, temporary)
            tokenizer.save(self.tokenizer)
            save_recipe(recipe, self.recipe)
        except OSError:
            self._remove_begun()
            raise  # `locked` says so

    def _remove_begun(self) -> None:
        """Remove what `create` made, and nothing else."""
        for file in (self.recipe, self.tokenizer, self.input):
            with suppress(OSError):
                file.unlink(missing_ok=True)
        with suppress(OSError):
            self.checkpoints.rmdir()  # if it is empty

    def read_recipe(self) -> Recipe:
        """What the run was asked for.

        Raises:
            UserError: this is no run folder, or its recipe is damaged.
        """
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such run folder")
        if not self.recipe.exists():
            raise UserError(f"{self.path}: not a run folder (no recipe.toml in it)")
        return Recipe.parse(read_toml(self.recipe, "a run's recipe"), str(self.recipe))

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


def read_metrics(path: Path, first: int | None = None) -> list[dict[str, Any]]:
    """The lines of a metrics file, or the `first` so many; a last line that a crash cut short is left out.

    Raises:
        UserError: another line is damaged.
    """
    rows = read_json_lines(path, "metrics", dict[str, Any])[:first]
    for number, row in enumerate(rows, 1):
        if row is None or not isinstance(row.get("step"), int):
            raise UserError(f"{path}: damaged: line {number}: mend it, or remove the line")
    return [row for row in rows if row is not None]
