"""What a tokenizer looks like in a terminal: its figures, and a text with its tokens told apart."""

from itertools import islice
from typing import TYPE_CHECKING, Any

from glassgpt.errors import UserError, printable, shorten

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from glassgpt.tokenizers import Tokenizer

MOST_NAMES = 50  # of special tokens
LONGEST = 60  # characters of a token's label or a special token's name that are shown
COLOURS = ("#9ecae1", "#fdd0a2", "#c7e9c0", "#dadaeb", "#fcc5c0")  # light enough for black letters


def print_info(
    console: "Console", file: str, loaded: "Tokenizer", facts: dict[str, Any], longest: list[int], text: str
) -> None:
    """Print a table of facts, as `glassgpt tokenizer info` collects them, and the picture of a text."""
    from rich.markup import escape
    from rich.table import Table

    from glassgpt.tokenizers.labels import token_label

    def plain(text: str) -> str:
        """Whatever a file holds, as text for the terminal and not as its control sequences, nor as rich's markup."""
        return escape(printable(shorten(text, LONGEST)))

    table = Table(title=plain(file), title_justify="left", title_style="bold", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("kind", loaded.kind)
    if "pattern" in facts:
        table.add_row("pattern", escape(printable(shorten(facts["pattern"], 1_000))))
    table.add_row("entries", f"{loaded.vocab_size:,}")
    special = loaded.special_tokens
    names = [f"{plain(name)} {token:,}" for name, token in islice(special.items(), MOST_NAMES)]
    more = [f"and {len(special) - MOST_NAMES:,} more"] if len(special) > MOST_NAMES else []
    table.add_row("special tokens", ", ".join(names + more) or "none")
    table.add_row("fingerprint", loaded.fingerprint)
    if "tokens" in facts:
        table.add_row("tokens in the text", f"{facts['tokens']:,}")
        table.add_row("bytes per token", f"{facts['bytes_per_token']:.3f}")
    if longest:
        table.add_row("longest tokens", "  ".join(plain(token_label(loaded.token_bytes(t))) for t in longest))
    console.print(table, highlight=False)
    try:
        ids = loaded.encode(text)
    except UserError as error:
        console.print(
            f"no picture: {printable(str(error))}; choose a text with --text",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return
    console.print(f"how {len(text):,} characters become {len(ids):,} tokens:", highlight=False)
    console.print(cut_picture(loaded, ids, colour=console.color_system is not None))


def cut_picture(loaded: "Tokenizer", ids: list[int], *, colour: bool) -> "Text":
    """A text with its tokens told apart: by colours, or by bars where there are none."""
    from rich.text import Text

    from glassgpt.tokenizers.labels import token_label

    picture = Text()
    new_line = True
    for number, token in enumerate(ids):
        label = shorten(token_label(loaded.token_bytes(token)), LONGEST)
        if colour:
            picture.append(label, style=f"black on {COLOURS[number % len(COLOURS)]}")
        else:
            picture.append(("" if new_line else "|") + label)
        new_line = b"\n" in loaded.token_bytes(token)
        picture.append("\n" * new_line)
    return picture
