"""glassgpt compare"""

import json
from pathlib import Path
from typing import Annotated

from glassgpt.cli.options import FilePath, RunPath, Switch
from glassgpt.cli.output import note
from glassgpt.cli.pictures import check_drawing
from glassgpt.errors import UserError, printable


def compare(*runs: RunPath, out: FilePath = Path("compare.png"), json_: Annotated[bool, Switch] = False) -> None:
    """Compare runs, whatever their tokenizers, in bits per byte of validation text.

    `glassgpt plot` draws their other curves: losses, learning rates, gradient norms, speeds.

    Parameters
    ----------
    runs
        Run folders, finished or not.
    out
        The picture, a .png or .svg: bits per byte against training time and against bytes of text seen.
    json_
        Print one JSON array, and draw nothing.
    """
    from glassgpt.training.comparison import differences, draw_comparison, read_compared, short_names

    if not runs:
        raise UserError("compare: name run folders, such as runs/*")
    if not json_:
        check_drawing(out)
    compared = sorted(map(read_compared, runs, short_names(runs)), key=lambda run: run.bits_per_byte or float("inf"))
    if json_:
        print(json.dumps([run.to_dict() for run in compared]))
        for line in differences(compared):
            note(line)
        return
    draw_comparison(compared, out)  # before anything is printed, which may fail
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in ("run", "tokenizer", "entries", "parameters", "bits/byte", "tokens/s", "time"):
        table.add_column(name, justify="left" if name in ("run", "tokenizer") else "right", no_wrap=name != "run")
    for run in compared:
        table.add_row(
            Text(printable(run.name)),
            run.recipe.tokenizer.kind,
            f"{run.recipe.model.vocab_size:,}",
            f"{run.parameters:,}",
            "-" if run.bits_per_byte is None else f"{run.bits_per_byte:.4f}",
            "-" if run.tokens_per_second is None else f"{run.tokens_per_second:,.0f}",
            f"{run.seconds:,.0f} s",
        )
    console = Console()
    console.print(table)
    for line in differences(compared):
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
    console.print(printable(f"curves: {out}"), highlight=False, markup=False, soft_wrap=True)
