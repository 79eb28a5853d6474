"""The files that a folder or a glob pattern stands for; no folder is visited twice, even through links."""

import os
import re
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from fnmatch import filter as matching_names
from glob import has_magic
from pathlib import Path

from glassgpt.data.decoding import is_text
from glassgpt.data.rows import ROW_SUFFIXES
from glassgpt.data.tokens import is_token_folder
from glassgpt.data.unpacking import bare_suffix, unpacked
from glassgpt.errors import UserError, printable, reason, shorten
from glassgpt.files import identity

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".text")
# Kinds of files and folders that are skipped: singular and plural.
_HIDDEN = ("hidden file or folder", "hidden files or folders")
_COPY = ("editor's copy or unfinished download", "editors' copies or unfinished downloads")
_PACKAGES = ("folder of installed packages", "folders of installed packages")
_JSON = ("JSON file", "JSON files")  # mostly brackets and field names, not text; still read if named explicitly
_RUN, _TOKENS = ("run", "runs"), ("prepared text", "prepared texts")
_BINARY, _CLOSED = ("file that is not text", "files that are not text"), ("unreadable folder", "unreadable folders")
_COPY_NAMES = re.compile(r".*~|#.*#|.*\.(?:swp|swo|bak|orig|tmp|part|crdownload)", re.IGNORECASE)
_ESCAPED = re.compile(r"\[([*?[])\]")  # a literal character, as `glob.escape` writes it


class _Walk:
    """A walk through folders that visits none twice, and none above its start."""

    def __init__(self) -> None:
        self._entered: set[tuple[int, int] | None] = set()

    def leaves_out(self, path: Path) -> bool:
        """Whether to skip a file or a folder: hidden ones, as in a shell."""
        return path.name.startswith(".")

    def refused(self, folder: Path) -> None:
        """Record a folder that cannot be read. This class ignores it, as shells do."""

    def folders(self, start: Path) -> Iterator[tuple[Path, list[Path]]]:
        """Yield `start` and each folder below it with its files; linked folders come last."""
        above = {identity(folder) for folder in start.resolve().parents}
        waiting, linked = [start], deque[Path]()
        while waiting or linked:
            here = waiting.pop() if waiting else linked.popleft()
            mark = identity(here)
            if mark in self._entered or mark in above:
                continue
            self._entered.add(mark)
            others = []
            for path in self._entries(here):
                if path.is_dir():
                    (linked if path.is_symlink() else waiting).append(path)
                else:
                    others.append(path)
            yield here, others

    def _entries(self, folder: Path) -> list[Path]:
        try:
            return [path for path in sorted(folder.iterdir()) if not self.leaves_out(path)]
        except PermissionError:
            self.refused(folder)
            return []


class _Texts(_Walk):
    """A walk through a folder of texts, which counts what it skips."""

    def __init__(self) -> None:
        super().__init__()
        self.left_out: Counter[tuple[str, str]] = Counter()

    def leaves_out(self, path: Path) -> bool:
        kind = _kind_left_out(path)
        if kind:
            self.left_out[kind] += 1
        return kind is not None

    def refused(self, folder: Path) -> None:
        self.left_out[_CLOSED] += 1

    def holds_text(self, path: Path) -> bool:
        """Whether to include a file."""
        if bare_suffix(path) in (*TEXT_SUFFIXES, *ROW_SUFFIXES):
            return True  # if it is not text, reading it raises an error
        try:
            chunks = unpacked(path)
            text = is_text(next(chunks, b""), whole=next(chunks, None) is None)
        except UserError:  # unreadable, or not compressed as its name says
            text = False
        if not text:
            self.left_out[_BINARY] += 1
        return text


def _kind_left_out(path: Path) -> tuple[str, str] | None:
    if path.name.startswith("."):
        return _HIDDEN
    if _COPY_NAMES.fullmatch(path.name):
        return _COPY
    if path.suffix.lower() == ".json" and path.is_file():
        return _JSON
    if not path.is_dir():
        return None
    if path.name in ("node_modules", "__pycache__") or (path / "pyvenv.cfg").is_file():
        return _PACKAGES
    return _RUN if is_run_folder(path) else _TOKENS if is_token_folder(path) else None


def is_run_folder(path: Path) -> bool:
    """Whether a folder looks like one that `glassgpt train` made."""
    return (path / "recipe.toml").is_file() and (path / "checkpoints").is_dir()


def text_files(folder: Path) -> list[Path]:
    """The text files in a folder and all folders below it, sorted by name.

    Skipped, and counted in a line on standard error, are hidden files and folders, editors' copies, unfinished
    downloads, installed packages, runs, prepared texts, .json files, and files that are not text. Suffixes such as
    .txt or .jsonl mark a file as text; for other files, the first bytes decide. A linked folder is visited once, after
    the real ones, and not at all if it contains the folder where the walk began.

    Raises:
        UserError: a folder or a file cannot be read, or there is none with text.
    """
    walk = _Texts()
    try:
        files = sorted(file for _, others in walk.folders(folder) for file in others if file.is_file())
        files = [file for file in files if walk.holds_text(file)]
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be read: {reason(error)}") from None
    counts = ", ".join(f"{count:,} {kind[count > 1]}" for kind, count in sorted(walk.left_out.items()))
    if not files:
        raise UserError(f"{folder}: no text files in this folder" + (f" (skipped: {counts})" if counts else ""))
    if counts:
        print(f"{printable(shorten(folder))}: skipped {counts}", file=sys.stderr)
    return files


def matching_files(pattern: str) -> list[Path]:
    """The files that match a glob pattern, sorted by name; `**` matches any number of folders, including none.

    As in a shell, `*` and `**` match no hidden names.

    Raises:
        UserError: a folder cannot be read.
    """
    path = Path(pattern)
    start = Path(path.anchor)  # empty if the pattern is relative
    try:
        found = _matching(start, path.parts[1:] if path.anchor else path.parts)
        return sorted({file for file in found if file.is_file()})
    except OSError as error:
        raise UserError(f"{error.filename or pattern}: cannot be read: {reason(error)}") from None


def _matching(start: Path, parts: Sequence[str]) -> list[Path]:
    found = [start]
    for number, part in enumerate(parts):
        if part == "**":
            walk, last = _Walk(), number == len(parts) - 1
            below = [each for folder in found if folder.is_dir() for each in walk.folders(folder)]
            found = [file for _, others in below for file in others] if last else [folder for folder, _ in below]
        elif not has_magic(_ESCAPED.sub("", part)):
            name = _ESCAPED.sub(r"\1", part)
            found = [path for folder in found if os.path.lexists(path := folder / name)]
        else:
            found = [path for folder in found for path in _named_like(folder, part)]
    return found


def _named_like(folder: Path, pattern: str) -> list[Path]:
    try:
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    except PermissionError:  # skipped, as in a shell
        return []
    if not pattern.startswith("."):
        names = [name for name in names if not name.startswith(".")]
    return [folder / name for name in sorted(matching_names(names, pattern))]
