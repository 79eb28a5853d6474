"""What a word that is no run folder or recipe may have meant, by what is on the disk."""

import os
from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from glassgpt.errors import UserError, shorten, show
from glassgpt.paths import expand

RUNS = Path("runs")  # where `train` makes them
MOST_ENTRIES = 10_000  # of a folder that are looked at
_HEAD = 4096  # bytes that tell what a file is


class MistakenWordError(UserError):
    """A word that its place does not take.

    Attributes:
        word: as it was given.
        meant: the words that belong in its place, if the rest of the command stands.
        command: the words of another command that was meant.
    """

    def __init__(
        self, message: str, word: str = "", *, meant: list[str] | None = None, command: list[str] | None = None
    ):
        super().__init__(message)
        self.word, self.meant, self.command = word, meant, command


def is_run(path: Path) -> bool:
    """Whether this is a run folder."""
    return os.path.isfile(path / "recipe.toml")  # noqa: PTH113 - unlike Path's, it answers whatever the name


def find_runs(folder: Path = RUNS) -> list[Path]:
    """The run folders in a folder, the newest first."""
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in islice(entries, MOST_ENTRIES) if is_run(Path(entry.path))]
        return sorted(found, key=lambda run: (-run.stat().st_mtime_ns, run))
    except OSError:
        return []


def check_run(word: str) -> Path:
    """The path of a run folder.

    Raises:
        MistakenWordError: it is none; the error knows what was meant, if that can be told.
        UserError: it cannot be read.
    """
    path = expand(word)
    if is_run(path):
        return path
    if (around := _run_around(path)) is not None:
        kind = "folder" if path.is_dir() else "file"
        message = f"{shorten(word)}: a {kind} in the run folder {around}, not a run folder"
        raise MistakenWordError(message, word, meant=[str(around)])
    if os.path.isdir(path):  # noqa: PTH112
        raise _no_run_but_folder(word, path)
    if os.path.isfile(path):  # noqa: PTH113
        message, command = _other_file(path, word)
        raise MistakenWordError(f"{shorten(word)}: {message}, not a run folder", word, command=command)
    _require_missing(path, word)
    raise _missing_run(word, path)


def _run_around(path: Path) -> Path | None:
    """The run folder that a file or folder is a part of, if it is."""
    if not os.path.lexists(path):
        return None
    return next((folder for folder in islice(path.parents, 3) if folder.name and is_run(folder)), None)


def _no_run_but_folder(word: str, path: Path) -> MistakenWordError:
    if (path / "header.json").is_file():
        message = f"{shorten(word)}: a prepared text, not a run folder"
        return MistakenWordError(message, word, command=["train", "--data", word])
    runs = find_runs(path)
    if runs:
        names = shorten(", ".join(run.name for run in runs))
        message = f"{shorten(word)}: not a run folder (no recipe.toml in it), but it holds runs ({names})"
        return MistakenWordError(message, word, meant=[str(runs[0])])
    message = f"{shorten(word)}: not a run folder (no recipe.toml in it)"
    return MistakenWordError(message, word, command=["train", "--data", word] if _has_texts(path) else None)


def _missing_run(word: str, path: Path) -> MistakenWordError:
    runs = [*find_runs(path.parent), *find_runs()]
    by_name = {run.name: run for run in reversed(runs)}
    near = get_close_matches(path.name, by_name, n=1, cutoff=0.6)
    if near:
        return MistakenWordError(f"{shorten(word)}: no such run folder", word, meant=[str(by_name[near[0]])])
    known = f" (there are {shorten(', '.join(map(str, runs)), 200)})" if runs else ""
    return MistakenWordError(f"{shorten(word)}: no such run folder{known}", word)


def _require_missing(path: Path, word: str) -> None:
    """Make sure that a path that is neither file nor folder is missing.

    Raises:
        UserError: it cannot be looked at, or is a device or a pipe.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(f"{shorten(word)}: cannot be read: {error.strerror}") from None
    raise UserError(f"{shorten(word)}: neither a file nor a folder")


def _other_file(path: Path, word: str) -> tuple[str, list[str] | None]:
    """What a file is, and the command that takes it."""
    head = _head(path)
    if path.suffix.lower() == ".toml":
        return "a recipe", ["train", word]
    if b"glassgpt-tokenizer" in head:
        return "a tokenizer", ["tokenizer", "info", word]
    if looks_like_text(path):
        return "a text", ["train", "--data", word]
    return "a file", None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:  # a regular file, as was seen before
            return file.read(_HEAD)
    except OSError:
        return b""


def looks_like_text(path: Path) -> bool:
    """Whether a file can be trained on: text, rows of texts, or either of them packed."""
    from glassgpt.data.decoding import is_text
    from glassgpt.data.rows import ROW_SUFFIXES
    from glassgpt.data.unpacking import PACKED_SUFFIXES

    if not os.path.isfile(path):  # noqa: PTH113
        return False
    if path.suffix.lower() in (*ROW_SUFFIXES, *PACKED_SUFFIXES):
        return True
    head = _head(path)
    return bool(head) and path.suffix.lower() not in (".json", ".safetensors") and is_text(head)


def _has_texts(folder: Path) -> bool:
    from glassgpt.data.folders import TEXT_SUFFIXES

    return any(path.suffix.lower() in TEXT_SUFFIXES and looks_like_text(path) for path in _inside(folder))


def _inside(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            yield from (Path(entry.path) for entry in islice(entries, MOST_ENTRIES) if not entry.name.startswith("."))
    except OSError:
        return


def check_recipe(word: str) -> None:
    """Make sure that a word can be a recipe: a name, or a file of TOML.

    Raises:
        MistakenWordError: it is something else, such as a text or a run folder.
    """
    from glassgpt.recipes import recipe_names

    path = expand(word)
    if word in recipe_names() or is_recipe_file(path):
        return
    if is_run(path):
        raise MistakenWordError(f"{shorten(word)}: a run folder, not a recipe", word, meant=_to_train(path))
    if (around := _run_around(path)) is not None:
        message = f"{shorten(word)}: a part of the run folder {around}, not a recipe"
        raise MistakenWordError(message, word, meant=_to_train(around))
    if runs := find_runs(path):
        raise MistakenWordError(f"{shorten(word)}: a folder of runs, not a recipe", word, meant=_to_train(runs[0]))
    if what := source_kind(word):
        raise MistakenWordError(f"{shorten(word)}: {what}, not a recipe", word, meant=["--data", word])
    if os.path.lexists(path):
        return  # reading it says what is wrong
    names = {str(run): run for run in find_runs()}
    if path.parent.name and (run := get_close_matches(word, names, n=1, cutoff=0.6)):
        meant = _to_train(names[run[0]])
        raise MistakenWordError(f"{shorten(word)}: no such recipe or run folder", word, meant=meant)
    near = get_close_matches(word, recipe_names(), n=1, cutoff=0.6)
    known = "" if near else f": known: {', '.join(recipe_names())}"
    raise MistakenWordError(f"no recipe {show(word)}{known}", word, meant=near or None)


def _to_train(run: Path) -> list[str]:
    """The words behind `train` that resume a run, or train it anew if it is finished."""
    return [str(run / "recipe.toml")] if (run / "summary.json").is_file() else ["--resume", str(run)]


def source_kind(word: str) -> str | None:
    """What a word is that `--data` takes: a corpus, a text, a folder, a pattern; None if it is nothing of that kind."""
    from glob import has_magic

    from glassgpt.data.corpora import NAMES

    path = expand(word)
    if word == "-":
        return "standard input"
    if word in NAMES:
        return "a corpus"
    if os.path.isdir(path):  # noqa: PTH112
        return "a prepared text" if (path / "header.json").is_file() else "a folder"
    if looks_like_text(path):
        return "a text"
    if has_magic(word) and path.parent.is_dir() and any(path.parent.glob(path.name)):
        return "a pattern of names"
    return None


def is_recipe_file(path: Path) -> bool:
    """Whether a file is meant as a recipe: by its name, or as it is TOML."""
    from glassgpt.reading import read_toml

    if path.suffix.lower() == ".toml":
        return os.path.lexists(path)
    try:
        return os.path.isfile(path) and bool(read_toml(path, "a recipe"))  # noqa: PTH113
    except UserError:
        return False
