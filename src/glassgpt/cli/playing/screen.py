"""What a session looks like: text as it comes, coloured by its probability or not, and notes beside it."""

import sys

from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style
from rich.table import Table
from rich.text import Text

from glassgpt.cli.playing.texts import Mark, Typed, Written
from glassgpt.errors import printable, shorten

# From the least probability of a class to its colours, and those where a terminal has only sixteen. Viridis: told apart
# by eyes that do not tell red from green, and by its lightness alone. Letters have a colour of their own, so that they
# can be read on dark and on light screens; what surprises is bright.
SHADES = (
    (0.9, "#ffffff on #440154", "bright_white on magenta"),
    (0.5, "#ffffff on #3b528b", "bright_white on blue"),
    (0.2, "#ffffff on #1b7a76", "black on cyan"),
    (0.05, "#000000 on #5ec962", "black on green"),
    (0.0, "#000000 on #fde725", "black on bright_yellow"),
)
TYPED, NOTE, PLAIN = Style(bold=True), Style(dim=True), Style.null()
MOST_BEFORE = 240  # characters of a text that are shown again when it goes on
MOST_COMPLAINT = 600  # characters of what is wrong
MOST_COLOURED = 1_600  # and when its colours are asked for


class Screen:
    """Where a session is seen.

    In a terminal, all goes there. Elsewhere standard output has the texts alone (and what was asked for, such as
    /show), as they are; notes go to standard error.

    Attributes:
        is_terminal: whether someone looks.
        coloured: whether text that the model wrote is coloured by its probability.
    """

    def __init__(self, console: Console | None = None, notes: Console | None = None):
        # (rich would take FORCE_COLOR for a terminal; a file gets plain text)
        self._console = console or Console(highlight=False, force_terminal=None if sys.stdout.isatty() else False)
        self.is_terminal = self._console.is_terminal
        self._notes = notes or (self._console if self.is_terminal else Console(highlight=False, stderr=True))
        self.coloured = False
        few = self._console.color_system in ("standard", "windows")
        self._shades = [(least, Style.parse(sixteen if few else usual)) for least, usual, sixteen in SHADES]
        self._at_line_start = True

    def can_colour(self) -> bool:
        """Whether there are colours here: a terminal that has them, and nobody who does not want any."""
        return self._console.color_system is not None and not self._console.no_color

    def write(self, mark: Mark, *, typed: bool = False) -> None:
        """Show a piece of text at once, as it is."""
        text, probability = mark
        if not text:
            return
        if not self.is_terminal:
            self._console.file.write(text)
            self._console.file.flush()
            return
        style = TYPED if typed else self._shade(probability)
        lines = printable(text).split("\n")  # (a colour must not run on to the end of the line)
        segments = [Segment(line, style) for line in lines]
        between = [segment for line in segments for segment in (line, Segment("\n"))][:-1]
        self._console.print(Segments(between), end="", soft_wrap=True)
        self._at_line_start = text.endswith("\n")

    def _shade(self, probability: float | None) -> Style:
        if not self.coloured or probability is None:
            return PLAIN
        return next(style for least, style in self._shades if probability >= least)

    def show_parts(self, parts: "tuple[Typed | Written, ...]", *, most: int | None = None) -> None:
        """Show a text, or its end: the last lines of it, at most so many characters."""
        marks = [(mark, isinstance(part, Typed)) for part in parts for mark in part.marks]
        text = "".join(mark[0] for mark, _ in marks)
        skip = 0 if most is None else _line_start(text, len(text) - most)
        if skip > 0:
            self._console.print("… ", end="", style=NOTE)
        for (piece, probability), typed in marks:
            self.write((piece[max(0, skip) :], probability), typed=typed)
            skip -= len(piece)

    def end_text(self) -> None:
        """End the line that a text ended in."""
        if not self.is_terminal:
            self._console.file.write("\n")
            self._console.file.flush()
        elif not self._at_line_start:
            self._console.print()
        self._at_line_start = True

    def note(self, message: str) -> None:
        """Say something beside the text, in one line."""
        if self.is_terminal and not self._at_line_start:
            self.end_text()
        self._notes.print(Text(printable(message)), style=NOTE, soft_wrap=True)

    def complain(self, message: str) -> None:
        """Say what is wrong, in one line."""
        self._notes.print(Text(shorten(printable(message), MOST_COMPLAINT)), soft_wrap=True)

    def interrupted(self, message: str) -> None:
        """After Ctrl-C at a prompt, which leaves the cursor in its line."""
        self._console.print()
        self.note(message)

    def table(self, rows: list[tuple[str, ...]]) -> None:
        """Show rows of text in columns, the last of which may be long."""
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for number in range(len(rows[0])):
            last = number == len(rows[0]) - 1
            table.add_column(overflow="fold", no_wrap=number == 0, style=NOTE if last else PLAIN)
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        self._console.print(table)

    def paragraph(self, text: str) -> None:
        """Show words of ours, wrapped."""
        self._console.print(Text(text))

    def legend(self) -> None:
        """Show what the colours mean."""
        line, above = Text("probability: "), 1.0
        for least, style in self._shades:
            line.append(f" {least:.0%} to {above:.0%} ", style)
            above = least
        self._console.print(line)


def _line_start(text: str, place: int) -> int:
    """The first beginning of a line at or behind a place, if there is one before the last line; else the place."""
    if place <= 0:
        return 0
    found = text.find("\n", place - 1, len(text) - 1) + 1
    return found or place
