"""What can be typed while playing: a text, an empty line, or a command with a slash in front."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

from glassgpt.cli.playing.interrupts import stopping
from glassgpt.cli.playing.lines import BLOCK, Entry, Lines
from glassgpt.cli.playing.screen import MOST_BEFORE, MOST_COLOURED, Screen
from glassgpt.cli.playing.session import Session, Writing
from glassgpt.cli.playing.texts import PlaySettings, Text, Typed, Written, setting_names
from glassgpt.errors import UserError, reason, suggest

HOW_TO = """\
A line is the beginning of a new text; the model goes on from there. An empty line lets it go on further.
Several lines, or a text that begins with a slash: {several}.
Ctrl-C stops the text, not the program. Ctrl-D leaves.
"""
QUOTED = f"put {BLOCK} in front of the first line and behind the last"
LEAVE = "Ctrl-D or /quit leaves"


class Leave(Exception):  # noqa: N818  (nothing is wrong)
    """The person wants to leave."""


class Player:
    """Does what is typed: the session behind it, the screen before it."""

    def __init__(self, session: Session, screen: Screen, lines: Lines):
        self._session, self._screen, self._lines = session, screen, lines

    def play(self) -> None:
        """Read and do until there is nothing more, or someone leaves."""
        while True:
            try:
                self.take(self._lines.read())
            except UserError as error:
                self._screen.complain(str(error))
            except Leave:
                return
            except EOFError:
                return
            except KeyboardInterrupt:
                if not self._screen.is_terminal:
                    raise
                self._screen.interrupted(LEAVE)
            except OSError:  # of the terminal or the pipe: there is no one to tell
                raise
            except Exception as error:
                if not self._screen.is_terminal:
                    raise
                self._screen.complain(
                    f"a bug in glassgpt, not yours: {type(error).__name__}: {reason(error)}: the texts are still here: "
                    "/save NAME keeps them"
                )

    def take(self, entry: Entry) -> None:
        """Do what was typed.

        Raises:
            UserError: it cannot be done; nothing has changed.
            Leave: it was to leave.
        """
        if entry.is_block or not entry.text.startswith("/"):
            if entry.text:
                self._write(self._session.begin(entry.text))
                if self._screen.is_terminal and entry.text.strip() in COMMAND_NAMES:
                    self._screen.note(f"the command is /{entry.text.strip()}")
            else:
                self.more("")
            return
        for line in entry.text.splitlines():  # commands that were pasted
            name, _, rest = line.partition(" ")
            find_command(name).do(self, rest)

    # --- writing -------------------------------------------------------------------------------------------------

    def more(self, _rest: str) -> None:
        """Go on with the text."""
        self._write(self._session.more())

    def add(self, words: str) -> None:
        """Put words behind the text and go on."""
        if not words:
            raise UserError("/add: words are missing behind it")
        self._write(self._session.add(words))

    def retry(self, _rest: str) -> None:
        """Write the last piece again."""
        self._write(self._session.retry())

    def _write(self, writing: Writing) -> None:
        """Show a text as it is written, behind the end of what stands before it."""
        began, steps = time.perf_counter(), 0
        with stopping(self._screen.is_terminal) as was_stopped:
            try:
                for mark in writing.marks:
                    if not steps:
                        self._show_before(writing.before)
                        began = time.perf_counter()
                    steps += 1
                    self._screen.write(mark)
                    if was_stopped():
                        break
            finally:
                writing.marks.close()
                if steps:
                    self._screen.end_text()
        seconds = time.perf_counter() - began
        last = self._session.parts[-1] if self._session.parts else None
        if isinstance(last, Written):
            self._tell_of(last, steps - 1, seconds)  # (the first one's time is the prompt's)

    def _show_before(self, before: Text) -> None:
        if self._screen.is_terminal:
            self._screen.show_parts(before, most=MOST_BEFORE)
        else:  # only what is new
            typed = list(takewhile(lambda part: isinstance(part, Typed), reversed(before)))
            self._screen.show_parts(tuple(reversed(typed)))

    def _tell_of(self, written: Written, steps: int, seconds: float) -> None:
        """Say with which seed a text was written, and how fast; where nobody looks, only what repeating it takes."""
        chance = written.settings.temperature > 0
        seed = f"seed {written.settings.seed}" if chance else "greedy"
        if not self._screen.is_terminal:
            if chance and self._session.settings.seed is None:
                self._screen.note(seed)
            return
        ends = {"stop": "it ended by itself", "length": "", "interrupted": "stopped"}[written.finish_reason]
        speed = f"{steps / seconds:,.0f} tokens/s" if steps > 1 and seconds > 0 else ""
        self._screen.note(", ".join(filter(None, (seed, speed, ends))))

    # --- the text as it is ---------------------------------------------------------------------------------------

    def undo(self, _rest: str) -> None:
        """Take back the last change."""
        self._session.undo()
        is_shown = self._screen.is_terminal and self._session.texts
        self._screen.note("taken back; the text is now:" if is_shown else "taken back")
        self._show_text(most=MOST_BEFORE)

    def edit(self, _rest: str) -> None:
        """Let the person change the text."""
        if not self._session.texts:
            raise UserError("/edit: there is no text yet: type a beginning")
        if self._session.edit(self._lines.edit(self._session.text)):
            self._show_text(most=MOST_BEFORE)
            self._screen.note("an empty line goes on from here")
        else:
            self._screen.note("nothing has changed")

    def text(self, _rest: str) -> None:
        """Show the whole text."""
        if not self._session.texts:
            raise UserError("/text: there is no text yet: type a beginning")
        self._show_text()

    def _show_text(self, most: int | None = None) -> None:
        if self._session.texts and (most is None or self._screen.is_terminal):
            self._screen.show_parts(self._session.parts, most=most)
            self._screen.end_text()

    # --- settings ------------------------------------------------------------------------------------------------

    def set(self, rest: str) -> None:
        """Change a setting, or show them."""
        name, _, value = rest.strip().replace("=", " ", 1).partition(" ")
        if not name:
            self.show("")
            return
        field, value = self._session.find_setting(name), value.strip()
        if value:
            self._session.set(field, value)
            self._screen.note(f"{field} {_shown(self._session.settings, field)}")
        else:
            self._screen.table([self._row(field)])

    def show(self, _rest: str) -> None:
        """Show the settings."""
        self._screen.table([self._row(field) for field in setting_names()])

    def _row(self, field: str) -> tuple[str, ...]:
        description = PlaySettings.model_fields[field].description or ""
        return field, _shown(self._session.settings, field), description

    def colour(self, rest: str) -> None:
        """Turn colours on or off."""
        word = rest.strip() or ("off" if self._screen.coloured else "on")
        if word not in ("on", "off"):
            raise UserError(f"/colour {word}: on or off")
        if word == "on" and not self._screen.can_colour():
            raise UserError("/colour: no colours here (no terminal, NO_COLOR is set, or TERM is dumb)")
        self._screen.coloured = word == "on"
        if self._screen.coloured:
            self._screen.legend()
            self._show_text(most=MOST_COLOURED)
        else:
            self._screen.note("colours are off")

    # --- files and the rest --------------------------------------------------------------------------------------

    def save(self, name: str) -> None:
        """Write the session into files."""
        text, data = self._session.save(name)
        self._screen.note(f"{text} to read, {data} to /load")

    def load(self, name: str) -> None:
        """Go on with a session from a file."""
        self._session.load(name)
        self._show_text(most=MOST_BEFORE)
        texts = len(self._session.texts)
        self._screen.note(f"{texts} text{'s' * (texts != 1)} and the settings; an empty line goes on with the last")

    def help(self, _rest: str) -> None:
        """Say what can be typed."""
        several = f"paste them, or {QUOTED}" if self._lines.keeps_pasted_lines else QUOTED
        self._screen.paragraph(HOW_TO.format(several=several))
        self._screen.table([(f"/{command.name} {command.words}", command.help) for command in COMMANDS])

    def quit(self, _rest: str) -> None:
        """Leave."""
        raise Leave


@dataclass(frozen=True)
class Command:
    """A command: its name, what stands behind it, what it does in words, and in deed."""

    name: str
    words: str
    help: str
    do: Callable[[Player, str], None]


COMMANDS = (
    Command("set", "NAME VALUE", "change a setting: temperature 0.5, top_k none, seed 7, stop \\n", Player.set),
    Command("show", "", "the settings, and what each means", Player.show),
    Command("more", "", "go on with the text, as an empty line does", Player.more),
    Command("add", "WORDS", "put words of yours behind the text, and go on", Player.add),
    Command(
        "retry",
        "",
        "write the last piece again: with another seed, or where the seed is fixed (or the temperature 0) with the "
        "settings as they are now; the same text if none has changed",
        Player.retry,
    ),
    Command("undo", "", "take back the last change of the text", Player.undo),
    Command("edit", "", "change the text, in the editor that EDITOR names or in the line", Player.edit),
    Command("text", "", "the whole text", Player.text),
    Command("colour", "on|off", "colour what the model writes by its probability", Player.colour),
    Command("save", "NAME", "write NAME.txt to read and NAME.json to load", Player.save),
    Command("load", "NAME", "go on with a session that was saved", Player.load),
    Command("help", "", "this", Player.help),
    Command("quit", "", "leave", Player.quit),
)
COMMAND_NAMES = {command.name for command in COMMANDS}
ALIASES = {"color": "colour", "exit": "quit", "?": "help"}


def find_command(word: str) -> Command:
    """The command that a word with a slash in front means.

    Raises:
        UserError: there is none.
    """
    name = word.removeprefix("/").lower()
    name = ALIASES.get(name, name)
    for command in COMMANDS:
        if command.name == name:
            return command
    if name.replace("-", "_") in setting_names():
        raise UserError(f"{word}: no such command, did you mean '/set {name}'?")
    hint = suggest(f"/{name}", [f"/{command.name}" for command in COMMANDS])
    raise UserError(f"{word}: no such command, {hint}")


def completions(typed: str) -> list[str]:
    """What a line could become: commands, settings, and on or off."""
    lines = [f"/{command.name}{' ' if command.words else ''}" for command in COMMANDS]
    lines += [f"/set {name} " for name in setting_names()]
    lines += ["/colour on", "/colour off"]
    return [line for line in lines if typed.startswith("/") and line.startswith(typed) and line != typed]


def _shown(settings: PlaySettings, field: str) -> str:
    """A value as it can be given to `/set`."""
    value = getattr(settings, field)
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False) if value else "none"
    return "none" if value is None else str(value)
