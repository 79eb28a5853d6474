"""What a tokenizer looks like in a terminal: its figures, and a text with its tokens told apart."""

from typing import TYPE_CHECKING, Any

from glassgpt.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from glassgpt.tokenizers import Tokenizer

COLOURS = ("#9ecae1", "#fdd0a2", "#c7e9c0", "#dadaeb", "#fcc5c0")  # light enough for black letters


def print_info(
    console: "Console", file: str, loaded: "Tokenizer", facts: dict[str, Any], longest: list[int], text: str
) -> None:
    """Print a table of facts, as `glassgpt tokenizer info` collects them, and the picture of a text."""
    from rich.markup import escape
    from rich.table import Table

    from glassgpt.tokenizers.labels import token_label

    table = Table(title=escape(file), title_justify="left", title_style="bold", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("kind", loaded.kind)
    if "pattern" in facts:
        table.add_row("pattern", escape(facts["pattern"]))
    table.add_row("entries", f"{loaded.vocab_size:,}")
    table.add_row("special tokens", ", ".join(f"{escape(n)} {i:,}" for n, i in loaded.special_tokens.items()) or "none")
    table.add_row("fingerprint", loaded.fingerprint)
    if "tokens" in facts:
        table.add_row("tokens in the text", f"{facts['tokens']:,}")
        table.add_row("bytes per token", f"{facts['bytes_per_token']:.3f}")
    if longest:
        table.add_row("longest tokens", "  ".join(escape(token_label(loaded.token_bytes(t))) for t in longest))
    console.print(table, highlight=False)
    try:
        ids = loaded.encode(text)
    except UserError as error:
        console.print(f"no picture: {error}; choose a text with --text", markup=False, highlight=False, soft_wrap=True)
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
        label = token_label(loaded.token_bytes(token))
        if colour:
            picture.append(label, style=f"black on {COLOURS[number % len(COLOURS)]}")
        else:
            picture.append(("" if new_line else "|") + label)
        new_line = b"\n" in loaded.token_bytes(token)
        picture.append("\n" * new_line)
    return picture
