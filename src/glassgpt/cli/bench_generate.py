"""glassgpt bench generate"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from glassgpt.cli.bench_shared import MOST_ROUNDS, check_range, set_threads, telling, times
from glassgpt.cli.options import Repeated, Switch, WholeNumber

if TYPE_CHECKING:
    from glassgpt.bench.generation import Comparison


def generate(
    *,
    shape: Annotated[list[str] | None, Repeated] = None,
    batch: WholeNumber = 1,
    weights: Literal["float32", "int8"] = "float32",
    against: str | None = None,
    prompt_tokens: WholeNumber = 512,
    new_tokens: WholeNumber = 128,
    mode: Literal["auto", "eager", "compiled", "graphs"] = "auto",
    device: str = "auto",
    threads: WholeNumber | None = None,
    rounds: WholeNumber = 5,
    json_: Annotated[bool, Switch] = False,
    overrides: Annotated[dict[str, dict[str, Any]] | None, Parameter(parse=False)] = None,
) -> None:
    """Measure writing: tokens a second of one text and of several at once, reading a prompt, the first token.

    All sides have the same random weights and continue the same prompts with the likeliest tokens, in turn and in the
    opposite order every other round: ratios hold where the machine's speed drifts. To write one token of one text, all
    weights are read from memory, and the keys and values so far: the share of memory's bandwidth, as torch reads it in
    the same rounds, is what that comes to. It can pass 100 %, above all for a model that fits the processor's cache.

    Fields of the model can be changed by their dotted names, such as --model.block-size 512; without --against, to
    another architecture, too.

    Parameters
    ----------
    shape
        0.8M, 10.7M or 124M, which are GPT-2's architecture in three sizes, or a recipe, for glassgpt alone. May come
        several times. Left out: 0.8M.
    batch
        So many texts at once, too.
    weights
        float32, or int8: then llama.cpp has q8_0, its own format with 8 bits. transformers is always in float32.
    against
        transformers, llama.cpp, or both with a comma between. Needs the extra bench.
    prompt_tokens
        Of the prompt whose reading is timed; what does not fit the context is left out.
    new_tokens
        To write after a prompt of 16 tokens; what does not fit the context is left out.
    mode
        How glassgpt decodes: eager, compiled, graphs (CUDA's), or auto, which chooses as for a long text.
    device
        auto, cpu, cuda, cuda:N or mps. llama.cpp only with cpu.
    threads
        Of every side on the CPU. Left out: as torch chooses.
    rounds
        How often each side has its turn.
    json_
        Print one JSON object, with the figures of every round.
    """
    check_range("batch", batch, 1, 4096)
    check_range("prompt-tokens", prompt_tokens, 1, 2**24)
    check_range("new-tokens", new_tokens, 2, 2**24)
    check_range("rounds", rounds, 1, MOST_ROUNDS)
    from glassgpt.bench.generation import compare_generation
    from glassgpt.bench.writing import check_writing, find_writing
    from glassgpt.device import choose_device

    chosen = choose_device(device)
    others = list(dict.fromkeys(name.strip() for name in (against or "").split(",") if name.strip()))
    writings = [
        find_writing(
            name,
            overrides or {},
            batch=batch,
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            weights=weights,
            mode=mode,
        )
        for name in shape or ["0.8M"]
    ]
    for writing in writings:
        check_writing(writing, others, chosen)
    set_threads(threads, device)
    comparisons = []
    for writing in writings:
        with telling(writing.name) as tell:
            comparison = compare_generation(writing, others, device=chosen, rounds=rounds, tell=tell)
        comparisons.append(comparison)
        if not json_:
            print("\n" * (len(comparisons) > 1), end="")
            _print_comparison(comparison)
    if json_:
        print(json.dumps({"generation": [comparison.to_dict() for comparison in comparisons]}))


def _print_comparison(comparison: "Comparison") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console, writing, sides = Console(), comparison.writing, comparison.sides
    console.print(f"[bold]{escape(str(writing))}[/]", highlight=False)
    table = Table()
    table.add_column("", no_wrap=True)
    for side in sides:
        table.add_column(side.name, justify="right", no_wrap=True)
    for label, style, cells in _rows(comparison):
        table.add_row(label, *cells, style=style)
    console.print(table)
    rounds = len(comparison.memory_read.rounds)
    changed = f" ({', '.join(writing.changes)})" if writing.changes else ""
    packages = ", ".join(f"{name} {version}" for name, version in comparison.versions.items())
    formats = ", ".join(f"{side.name} {side.how}" for side in sides)
    console.print(
        f"The likeliest {writing.new_tokens} tokens after {writing.short_prompt}{changed}, prefill of "
        f"{writing.prompt_tokens}; {formats}; {rounds} round{'s' * (rounds > 1)} in turn, on {comparison.machine}; "
        f"{packages}. Memory: {comparison.memory_read.median / 1e9:.1f} GB/s, read in these rounds.",
        highlight=False,
        markup=False,
    )


def _rows(comparison: "Comparison") -> Iterator[tuple[str, str, list[str]]]:
    """Label, style and a cell for each side."""
    sides, batch = comparison.sides, comparison.writing.batch

    def leads(kind: str) -> Iterator[tuple[str, str, list[str]]]:
        if len(sides) > 1:
            yield "  glassgpt's lead", "", [times(side.ratios[kind]) if side.ratios else "" for side in sides]

    yield "tokens/s", "bold", [_number(side.decode.median) for side in sides]
    yield from leads("decode")
    yield "  of memory's bandwidth", "", [f"{100 * side.bandwidth_share.median:.0f} %" for side in sides]
    if batch > 1:
        yield (
            f"{batch} at once, tokens/s",
            "bold",
            ["" if side.batch is None else _number(side.batch.median) for side in sides],
        )
        yield from leads("batch")
        yield "  of one text's", "", [f"{side.batch_gain.median:.1f}x" if side.batch_gain else "" for side in sides]
    yield "prefill, tokens/s", "bold", [_number(side.prefill.median) for side in sides]
    yield from leads("prefill")
    yield "first token", "bold", [f"{1000 * side.first_token.median:.1f} ms" for side in sides]
    yield from leads("first_token")
    yield "first call", "bold", [f"{side.first_seconds:.1f} s" for side in sides]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
