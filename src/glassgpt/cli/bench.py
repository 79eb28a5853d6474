"""glassgpt bench, glassgpt bench train; its third command stands in `bench_generate.py`"""

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from glassgpt.cli.bench_generate import generate
from glassgpt.cli.bench_shared import MOST_ROUNDS, check_range, set_threads, telling, times
from glassgpt.cli.options import Number, Repeated, Switch, WholeNumber
from glassgpt.errors import UserError

if TYPE_CHECKING:
    from glassgpt.bench.training import Comparison

bench = App(
    name="bench",
    help="Measure what this machine can do at best, in a few seconds; with a command, how fast models are on it.",
    help_flags=["--help", "-h"],
)
bench.command(generate)
DAY = 86_400  # seconds
SHORT_NAMES = {"transformers, fused AdamW": "  fused AdamW", "transformers, plain": "  plain"}


@bench.default
def limits(*, device: str = "auto", threads: WholeNumber | None = None, json_: Annotated[bool, Switch] = False) -> None:
    """Measure what this machine can do at best: matrix products and reading memory. Takes a few seconds.

    Parameters
    ----------
    device
        auto, cpu, cuda, cuda:N or mps.
    threads
        Number of CPU threads (default: chosen by a short trial).
    json_
        Print one JSON object.
    """
    from rich.console import Console
    from rich.table import Table

    from glassgpt.bench.limits import measure_limits
    from glassgpt.bench.machine import this_machine
    from glassgpt.device import choose_device

    chosen = choose_device(device)
    set_threads(threads, device)
    with telling("measuring the machine's limits"):
        machine, found = this_machine(chosen), measure_limits(chosen)
    if json_:
        print(json.dumps({"machine": machine.to_dict(), **found.to_dict()}))
        return
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for number_format, speed in found.matmul.items():
        table.add_row(f"matrix product, {number_format}", _flops(speed))
    table.add_row("reading memory", f"{found.memory_read / 1e9:,.1f} GB/s")
    console = Console()
    console.print(table)
    console.print(f"on {machine}, torch {machine.torch}", highlight=False, markup=False, soft_wrap=True)


@bench.command
def train(
    *,
    shape: Annotated[list[str] | None, Repeated] = None,
    against: Literal["transformers"] | None = None,
    compile_: Annotated[bool, Parameter(name="--compile", negative=())] = False,
    precision: Literal["auto", "float32", "bfloat16", "float16"] | None = None,
    device: str | None = None,
    threads: WholeNumber | None = None,
    rounds: WholeNumber = 7,
    seconds: Number | None = None,
    json_: Annotated[bool, Switch] = False,
    overrides: Annotated[dict[str, dict[str, Any]] | None, Parameter(parse=False)] = None,
) -> None:
    """Measure training: tokens a second, how well the machine is used, memory; beside transformers if asked for.

    All sides train the same shape in turn, in one process, in the opposite order every other round: ratios hold where
    the machine's speed drifts. MFU is the share of the machine's peak that training's matrix products come to (a token
    takes 6 operations for each weight in a matrix, and 12 x layers x width x context for attention); the peak is that
    of large matrix products, measured in the same rounds. Memory is the most that a process takes which makes a side
    and trains it for three steps: on a CPU Python and its libraries included, on a GPU the tensors.

    Fields of glassgpt's side can be changed by their dotted names, such as --model.bias false.

    Parameters
    ----------
    shape
        0.8M, 10.7M or 124M, which are GPT-2's architecture in three sizes, or a recipe, for glassgpt alone. May come
        several times. Left out: 0.8M.
    against
        Time transformers' GPT-2, too: with AdamW as it comes, with the fused one, and, where these are not so, plain:
        in float32 and not compiled. Needs the extra bench.
    compile_
        With torch.compile on all sides.
    precision
        Of matrix products, as in training: auto, float32, bfloat16 or float16.
    device
        auto, cpu, cuda, cuda:N or mps.
    threads
        Number of CPU threads (default: chosen by a short trial).
    rounds
        How often each side has its turn.
    seconds
        Of a turn. Left out: one, or as long as three steps of the slowest side take.
    json_
        Print one JSON object, with the figures of every round.
    """
    check_range("rounds", rounds, 1, MOST_ROUNDS)
    if seconds is not None and not 0 < seconds <= DAY:
        raise UserError(f"--seconds {seconds:g}: more than 0, and at most {DAY:,}")
    from glassgpt.bench.memory import measure_memory
    from glassgpt.bench.training import compare_training, import_transformers, side_names
    from glassgpt.bench.work import find_work
    from glassgpt.device import choose_device
    from glassgpt.training.precision import choose_precision

    options = {"device": device, "precision": precision, "compile": compile_ or None}
    settings = {field: value for field, value in options.items() if value is not None}
    works = [find_work(name, overrides or {}, settings) for name in shape or ["0.8M"]]
    for work in works:
        choose_precision(
            choose_device(work.training.device), work.training.precision
        )  # or say why not, before any work
        if against and not work.is_shape:
            raise UserError(f"--against {against}: has no counterpart of the recipe {work.name}: take a shape")
    if against:
        import_transformers()
    set_threads(threads, works[0].training.device)
    comparisons = []
    for work in works:
        with telling(work.name) as tell:
            peaks = {}
            for name in side_names(work, against_transformers=against is not None):
                tell(f"memory of {name}")
                peaks[name] = measure_memory(work, name)
            comparison = compare_training(
                work,
                against_transformers=against is not None,
                rounds=rounds,
                seconds=seconds,
                peaks=peaks,
                tell=tell,
            )
        comparisons.append(comparison)
        if not json_:
            print("\n" * (len(comparisons) > 1), end="")
            _print_comparison(comparison)
    if json_:
        print(json.dumps({"training": [comparison.to_dict() for comparison in comparisons]}))


def _print_comparison(comparison: "Comparison") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console, work = Console(), comparison.work
    several, compiled = len(comparison.sides) > 1, work.training.compile
    console.print(f"[bold]{escape(str(work))}[/]", highlight=False)
    table = Table()
    table.add_column("", no_wrap=True)
    for name in ("tokens/s", "MFU", "memory", *(["starts in"] if compiled else [])):
        table.add_column(name, justify="right", no_wrap=True)
    if several:
        table.add_column("glassgpt's lead", no_wrap=True)
    for side in comparison.sides:
        cells = [
            SHORT_NAMES.get(side.name, side.name),
            f"{side.speed.median:,.0f}",
            f"{100 * side.utilisation.median:.0f} %",
            "-" if side.peak_memory is None else f"{side.peak_memory / 1e6:,.0f} MB",
            *([f"{side.first_seconds:.1f} s"] if compiled else []),
        ]
        if several:
            cells.append("" if side.ratio is None else times(side.ratio))
        table.add_row(*cells, style="bold" if several and side.ratio is None else "")
    console.print(table)
    rounds = len(comparison.matmul.rounds)
    changed = f" ({', '.join(work.changes)})" if work.changes else ""
    packages = ", ".join(f"{name} {version}" for name, version in comparison.versions.items())
    console.print(
        f"Whole training steps{changed} in {comparison.precision}, {rounds} round{'s' * (rounds > 1)} of "
        f"{comparison.seconds:.2g} s a side in turn, on {comparison.machine}; {packages}. "
        f"MFU: of {_flops(comparison.matmul.median)}, matrix products in {comparison.precision} in these rounds.",
        highlight=False,
        markup=False,
    )


def _flops(speed: float) -> str:
    """Operations a second, readable."""
    return f"{speed / 1e12:,.1f} TFLOP/s" if speed >= 1e12 else f"{speed / 1e9:,.0f} GFLOP/s"
