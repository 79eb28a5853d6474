"""What a path means: the home folder, the working folder, and names that are no text."""

import os
from glob import escape
from pathlib import Path
from shlex import quote

from glassgpt.errors import UserError


def expand(path: Path | str) -> Path:
    """The path with a leading `~` or `~user` replaced by that home folder.

    A `~` that stands for no home folder, as in Office's `~$memo.txt`, is a part of the name.

    Raises:
        UserError: the name holds a null character, which no file has, or is empty.
    """
    text = os.fspath(path)
    if "\0" in text:
        raise UserError(f"{text.replace(chr(0), '␀')!r}: a name with a null character in it: no file has one")
    if not text:
        raise UserError("an empty path: name a file or a folder")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def absolute(path: Path | str) -> Path:
    """The path from the root, so that it means the same from any working folder.

    Links are kept as they are: a link's own name, and so its suffix, says what it holds, wherever it leads.

    Raises:
        UserError: the working folder has been removed.
    """
    expanded = expand(path)
    if expanded.is_absolute():
        return expanded
    return working_folder() / expanded


def absolute_pattern(pattern: str) -> str:
    """A pattern of names, such as `texts/*.txt`, from the root; the working folder's own name is no pattern."""
    expanded = str(expand(pattern))
    if Path(expanded).is_absolute():
        return expanded
    return os.path.join(escape(str(working_folder())), expanded)  # noqa: PTH118 - a pattern is no path


def working_folder() -> Path:
    """The current working folder.

    Raises:
        UserError: it has been removed.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise UserError("the working folder has been removed: change to one that exists") from None


def require_text(path: Path | str, fix: str = "rename it") -> None:
    """Make sure that a name can be written into a UTF-8 file, as a run's recipe is.

    Raises:
        UserError: it holds bytes that are not UTF-8, as names made on another system may.
    """
    name = os.fspath(path)
    if not is_text(name):
        raise UserError(f"{readable(name)}: a name that is not UTF-8: {fix}")


def is_text(word: str) -> bool:
    """Whether a name or another word from the system is UTF-8: it may hold bytes that are not."""
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def readable(word: str) -> str:
    r"""A word from the system for a message, with bytes that are not UTF-8 as `\xe9`."""
    try:
        return os.fsencode(word).decode("utf-8", errors="backslashreplace")
    except UnicodeEncodeError:  # halves of surrogate pairs, which stand for no bytes
        return word.encode("utf-8", errors="backslashreplace").decode("utf-8")


def as_word(path: Path | str) -> str:
    """The path as a word of a command line, quoted for a shell, so that it is neither an option nor a home folder."""
    text = os.fspath(path)
    if text.startswith("~"):  # (a leading ./ gets lost on the way)
        text = str(working_folder() / text)
    return quote(f".{os.sep}{text}" if text.startswith("-") else text)
