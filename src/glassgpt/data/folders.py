"""The files that a folder or a pattern of names stands for; no folder is entered twice, whatever links there are."""

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
# What no one means by a folder of texts: one of a kind, and several.
_HIDDEN = ("hidden file or folder", "hidden files or folders")
_COPY = ("editor's copy or unfinished download", "editors' copies or unfinished downloads")
_PACKAGES = ("folder of installed packages", "folders of installed packages")
_RUN, _TOKENS = ("run", "runs"), ("prepared text", "prepared texts")
_BINARY, _CLOSED = ("file that is not text", "files that are not text"), ("unreadable folder", "unreadable folders")
_COPY_NAMES = re.compile(r".*~|#.*#|.*\.(?:swp|swo|bak|orig|tmp|part|crdownload)", re.IGNORECASE)
_ESCAPED = re.compile(r"\[([*?[])\]")  # as `glob.escape` writes a character that means itself


class _Walk:
    """A way through folders that enters none twice, and none above the one where it began."""

    def __init__(self) -> None:
        self._entered: set[tuple[int, int] | None] = set()

    def leaves_out(self, path: Path) -> bool:
        """Whether to pass over a file or a folder: what is hidden, as shells do."""
        return path.name.startswith(".")

    def refused(self, folder: Path) -> None:
        """Take note of a folder that may not be read: shells pass over it."""

    def folders(self, start: Path) -> Iterator[tuple[Path, list[Path]]]:
        """Each folder from `start` on with what is in it beside folders; linked ones come after all others."""
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
    """A way through a folder of texts, which counts what it leaves out."""

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
        """Whether to take a file."""
        if bare_suffix(path) in (*TEXT_SUFFIXES, *ROW_SUFFIXES):
            return True  # if it is not, that is said when it is read
        try:
            text = is_text(next(unpacked(path), b""))
        except UserError:  # it may not be read, or is not packed as its name says
            text = False
        if not text:
            self.left_out[_BINARY] += 1
        return text


def _kind_left_out(path: Path) -> tuple[str, str] | None:
    if path.name.startswith("."):
        return _HIDDEN
    if _COPY_NAMES.fullmatch(path.name):
        return _COPY
    if not path.is_dir():
        return None
    if path.name in ("node_modules", "__pycache__") or (path / "pyvenv.cfg").is_file():
        return _PACKAGES
    return _RUN if is_run_folder(path) else _TOKENS if is_token_folder(path) else None


def is_run_folder(path: Path) -> bool:
    """Whether a folder looks like one that `glassgpt train` made."""
    return (path / "recipe.toml").is_file() and (path / "checkpoints").is_dir()


def text_files(folder: Path) -> list[Path]:
    """The text files of a folder and of all folders in it, in the order of their names.

    Left out, and counted in a line to standard error, are hidden files and folders, copies that editors keep, what
    package managers install, runs and prepared texts in it, and files that are not text. Names such as .txt or .jsonl
    say that a file is text; of others, the first bytes decide. A linked folder is entered once, after those that are
    really there; one that leads to a folder above it is not.

    Raises:
        UserError: it cannot be looked at.
    """
    walk = _Texts()
    try:
        files = sorted(file for _, others in walk.folders(folder) for file in others if file.is_file())
        files = [file for file in files if walk.holds_text(file)]
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be read: {reason(error)}") from None
    if walk.left_out:
        counts = ", ".join(f"{count:,} {kind[count > 1]}" for kind, count in sorted(walk.left_out.items()))
        print(f"{printable(shorten(folder))}: left out {counts}", file=sys.stderr)
    return files


def matching_files(pattern: str) -> list[Path]:
    """The files whose names match a pattern, in the order of their names; `**` stands for any folders, or none.

    As in a shell, `*` and `**` match no hidden names.

    Raises:
        UserError: a folder cannot be looked at.
    """
    path = Path(pattern)
    start = Path(path.anchor)  # empty if it is relative
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
    except PermissionError:  # as shells do
        return []
    if not pattern.startswith("."):
        names = [name for name in names if not name.startswith(".")]
    return [folder / name for name in sorted(matching_names(names, pattern))]
