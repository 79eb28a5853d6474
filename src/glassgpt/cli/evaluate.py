"""glassgpt evaluate"""

import json
from typing import Annotated, Literal

from glassgpt.cli.options import Repeated, RunPath, Switch
from glassgpt.errors import printable


def evaluate(
    run: RunPath,
    /,
    *,
    data: Annotated[list[str] | None, Repeated] = None,
    weights: Literal["float32", "int8"] = "float32",
    device: str = "auto",
    json_: Annotated[bool, Switch] = False,
) -> None:
    """Measure how well a trained model predicts a text.

    The whole text is looked at, in windows of the model's context that do not overlap: each token but the first is
    predicted once.

    Parameters
    ----------
    run
        A run folder.
    data
        Another text, whole: a corpus by name, files, a folder, -, or a prepared folder (of which the validation split).
        Left out: the run's own validation split.
    weights
        int8: with the matrices in 8 bits, as `generate --weights int8` has them.
    device
        auto, cpu, cuda, cuda:N or mps.
    json_
        Print one JSON object: loss (nats/token), perplexity, bits_per_byte, tokens, bytes, text.
    """
    from glassgpt.runs import load
    from glassgpt.threads import settle

    settle(device)

    loaded = load(run, device)
    if weights == "int8":
        loaded.use_int8()
    from glassgpt.data.opening import standard_input
    from glassgpt.training.evaluation import evaluate_run

    with standard_input(data or []) as stdin:
        result = evaluate_run(loaded, data, stdin=stdin)
    if json_:
        print(json.dumps(result))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "", "value", title=Text(printable(f"{run} on {result['text']}")), title_justify="left", show_header=False
    )
    table.columns[1].justify = "right"
    for name, shown in (
        ("loss, nats/token", f"{result['loss']:.4f}"),
        ("perplexity", f"{result['perplexity']:.3f}"),
        ("bits per byte", f"{result['bits_per_byte']:.4f}"),
        ("tokens", f"{result['tokens']:,}"),
        ("bytes", f"{result['bytes']:,}"),
    ):
        table.add_row(name, shown)
    Console().print(table)
