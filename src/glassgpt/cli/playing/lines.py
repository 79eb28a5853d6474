"""Where lines come from: a person at a terminal, with history and editing where there is readline, or a pipe."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from glassgpt.errors import UserError, reason
from glassgpt.reading import MOST_LINE, read_bytes

BLOCK = '"""'
TOO_LONG = f"longer than {MOST_LINE // 2**20} MB"
Completer = Callable[[str], list[str]]
"""Takes what was typed so far; returns what it could become."""


class Entry(NamedTuple):
    """What was given at one prompt.

    Attributes:
        text: one line, or several.
        is_block: it stood between triple quotes, so that a slash in front means nothing.
    """

    text: str
    is_block: bool = False


class Lines(Protocol):
    """What a session reads from.

    Attributes:
        keeps_pasted_lines: whether several lines that are pasted stay one entry.
    """

    keeps_pasted_lines: bool

    def read(self) -> Entry:
        """The next entry: a line, or a block of lines between two triple quotes. EOFError: there is none."""

    def edit(self, text: str) -> str:
        """Let a person change a text."""


def bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file or a pipe.

    Raises:
        UserError: one is too long, as what has no lines is; nothing behind it can be read.
    """
    while line := file.readline(MOST_LINE):
        if len(line) == MOST_LINE and not line.endswith(b"\n"):
            raise UserError(f"a line on standard input is {TOO_LONG}: nothing more is read")
        yield line


class Pipe:
    """Lines from a file or another program."""

    keeps_pasted_lines = False

    def __init__(self, lines: Iterable[bytes]):
        self._lines = iter(lines)
        self._codec = "utf-8-sig"

    def read(self) -> Entry:
        """The next entry."""
        return read_entry(lambda _more: self._line())

    def _line(self) -> str:
        data = next(self._lines, None)
        if data is None:
            raise EOFError
        try:
            text, self._codec = data.decode(self._codec), "utf-8"
        except UnicodeDecodeError:
            raise UserError("a line on standard input is not UTF-8 text: left out") from None
        return text.removesuffix("\n").removesuffix("\r")

    def edit(self, text: str) -> str:
        """Not here."""
        raise UserError("/edit: needs a terminal")


class Keyboard:
    """A person at a terminal."""

    def __init__(self, complete: Completer):
        try:
            import readline
        except ImportError:  # Windows; Python built without it
            self._readline = None
            self.keeps_pasted_lines = False
            return
        self._readline = readline
        is_gnu = "libedit" not in (readline.__doc__ or "")
        self.keeps_pasted_lines = is_gnu  # together, until Enter
        if is_gnu:
            readline.parse_and_bind("set enable-bracketed-paste on")
        readline.parse_and_bind("tab: complete" if is_gnu else "bind ^I rl_complete")
        readline.set_completer_delims("")
        readline.set_completer(lambda typed, number: dict(enumerate(complete(typed))).get(number))

    def read(self) -> Entry:
        """The next entry."""
        return read_entry(lambda more: self._line("... " if more else "> "))

    def _line(self, prompt: str) -> str:
        try:
            return input(prompt)
        except EOFError:
            print()  # what comes next begins a line of its own
            raise
        except UnicodeDecodeError:
            raise UserError("what was typed is not UTF-8 text: left out") from None

    def edit(self, text: str) -> str:
        """Change a text in the editor that VISUAL or EDITOR names, else in the line.

        Raises:
            UserError: there is no such editor, or it failed.
        """
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        if editor:
            return edit_with(editor, text)
        if self._readline is None:
            raise UserError("/edit: name an editor in the environment variable EDITOR")
        readline = self._readline
        readline.set_startup_hook(lambda: readline.insert_text(text))
        try:
            return input("edit> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return text
        finally:
            readline.set_startup_hook()


def read_entry(line: Callable[[bool], str]) -> Entry:
    """A line, or what stands between two triple quotes, which may be lines.

    Raises:
        EOFError: there is nothing more.
        UserError: a block has no end.
    """
    entry = line(False)
    if not entry.startswith(BLOCK):
        return Entry(entry)
    lines, size = [entry], len(entry)
    if len(entry.rstrip()) < 2 * len(BLOCK) or not entry.rstrip().endswith(BLOCK):
        while len(lines) == 1 or not lines[-1].rstrip().endswith(BLOCK):
            try:
                lines.append(line(True))
            except EOFError:
                raise UserError(f"the block that begins with {BLOCK} has no end: left out") from None
            size += len(lines[-1]) + 1
            if size > MOST_LINE:
                raise UserError(f"the block that begins with {BLOCK} is {TOO_LONG}: left out")
    text = "\n".join(lines).rstrip()[len(BLOCK) : -len(BLOCK)]
    return Entry(text.removeprefix("\n"), is_block=True)


def edit_with(editor: str, text: str) -> str:
    """Let a program change a text in a file.

    Raises:
        UserError: there is no such program, or it failed.
    """
    from glassgpt.data.decoding import decode_bytes

    try:
        words = shlex.split(editor, posix=os.name == "posix")
        with tempfile.TemporaryDirectory(prefix="glassgpt-") as folder:
            file = Path(folder) / "text.txt"
            file.write_text(text, encoding="utf-8", newline="")
            code = subprocess.run([*words, str(file)], check=False).returncode  # noqa: S603  (the person's own choice)
            changed = decode_bytes(read_bytes(file, "the text that was edited"), "the text that was edited")
    except UserError as error:
        raise UserError(f"/edit: {editor}: {error}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"/edit: {editor}: {reason(error)}") from None
    if code:
        raise UserError(f"/edit: {editor} ended with code {code}: nothing has changed")
    if changed.endswith("\n") and not text.endswith("\n"):
        changed = changed.removesuffix("\n")  # editors end the last line by themselves
    return changed
