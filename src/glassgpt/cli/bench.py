"""glassgpt bench, glassgpt bench train"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from glassgpt.cli.options import Repeated, Switch, WholeNumber
from glassgpt.errors import UserError

if TYPE_CHECKING:
    from glassgpt.bench.machine import Machine
    from glassgpt.bench.training import Comparison

bench = App(name="bench", help="Measure this machine, and how fast models train on it.", help_flags=["--help", "-h"])


@bench.default
def limits(*, device: str = "auto", threads: WholeNumber | None = None, json_: Annotated[bool, Switch] = False) -> None:
    """Measure what this machine can do at best: matrix products and reading memory. Takes a few seconds.

    Parameters
    ----------
    device
        auto, cpu, cuda, cuda:N or mps.
    threads
        That torch works with on the CPU. Left out: as torch chooses.
    json_
        Print one JSON object.
    """
    from rich.console import Console
    from rich.table import Table

    from glassgpt.bench.limits import measure_limits
    from glassgpt.bench.machine import this_machine
    from glassgpt.device import choose_device

    chosen = choose_device(device)
    _set_threads(threads)
    with _telling() as tell:
        tell("measuring")
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
    console.print(f"on {machine}", highlight=False, markup=False, soft_wrap=True)


@bench.command
def train(
    *,
    shape: Annotated[list[str] | None, Repeated] = None,
    against: Literal["transformers"] | None = None,
    compile_: Annotated[bool, Parameter(name="--compile", negative=())] = False,
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    device: str = "auto",
    threads: WholeNumber | None = None,
    rounds: WholeNumber = 7,
    seconds: float | None = None,
    json_: Annotated[bool, Switch] = False,
    overrides: Annotated[dict[str, dict[str, Any]] | None, Parameter(parse=False)] = None,
) -> None:
    """Measure training: tokens a second, utilisation, memory; beside transformers' GPT-2 if asked for.

    All sides train the same shape in turn, in one process, in the opposite order every other round, so that the ratios
    hold where the machine's speed drifts. Fields of our side's recipe can be changed by their dotted names, such as
    --model.bias false.

    Parameters
    ----------
    shape
        0.8M, 10.7M or 124M: GPT-2's architecture in three sizes; or a recipe, for our side alone. May come several
        times. Left out: 0.8M.
    against
        Another project, to be timed in the same run; needs the extra `bench`.
    compile_
        With torch.compile, on all sides.
    precision
        Of matrix products, as in training: auto, float32, bfloat16 or float16.
    device
        auto, cpu, cuda, cuda:N or mps.
    threads
        That torch works with on the CPU. Left out: as torch chooses.
    rounds
        How often each side has its turn.
    seconds
        Of a turn. Left out: one, or as long as three steps of the slowest side take.
    json_
        Print one JSON object with the figures of every round.
    """
    from glassgpt.bench.machine import this_machine
    from glassgpt.bench.memory import measure_memory
    from glassgpt.bench.training import compare_training, import_transformers, side_names
    from glassgpt.bench.work import find_work
    from glassgpt.device import choose_device

    if rounds < 1:
        raise UserError(f"--rounds {rounds}: at least 1")
    settings = {"device": device, "precision": precision, "compile": compile_}
    works = [find_work(name, overrides or {}, settings) for name in shape or ["0.8M"]]
    for work in works:
        if against and not work.is_shape:
            raise UserError(f"--against {against}: a recipe has no counterpart there: take a shape, not {work.name}")
    if against:
        import_transformers()
    machine = this_machine(choose_device(device))
    _set_threads(threads)
    names = side_names(against_transformers=against is not None)
    comparisons = []
    for work in works:
        with _telling() as tell:
            peaks = {}
            for name in names:
                tell(f"{work.name}: memory of {name}")
                peaks[name] = measure_memory(work, name)
            comparison = compare_training(
                work,
                against_transformers=against is not None,
                rounds=rounds,
                seconds=seconds,
                peaks=peaks,
                tell=lambda what, work=work, tell=tell: tell(f"{work.name}: {what}"),  # type: ignore[misc]
            )
        comparisons.append(comparison)
        if not json_:
            _print_comparison(comparison, machine)
    if json_:
        print(json.dumps({"machine": machine.to_dict(), "training": [found.to_dict() for found in comparisons]}))


def _set_threads(threads: int | None) -> None:
    import torch

    if threads is None:
        return
    if threads < 1:
        raise UserError(f"--threads {threads}: at least 1")
    torch.set_num_threads(threads)


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """A function that says what is under way, on a terminal's last line."""
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield status.update


def _print_comparison(comparison: "Comparison", machine: "Machine") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=str(comparison.work), title_justify="left", title_style="bold")
    table.add_column("")
    for name in ("tokens/s", "MFU", "memory", "first steps"):
        table.add_column(name, justify="right", no_wrap=True)
    if len(comparison.sides) > 1:
        table.add_column("glassgpt is faster", justify="right")
    for side in comparison.sides:
        ratio = side.ratio
        table.add_row(
            side.name,
            f"{side.speed.median:,.0f}",
            f"{100 * side.utilisation.median:.0f} %",
            "-" if side.peak_memory is None else f"{side.peak_memory / 1e6:,.0f} MB",
            f"{side.first_seconds:.1f} s",
            "" if ratio is None else f"{ratio.median:.2f} x ({ratio.lowest:.2f}-{ratio.highest:.2f})",
        )
    console.print(table)
    console.print(f"on {machine}; {comparison.precision}; peak {_flops(comparison.matmul.median)}", soft_wrap=True)


def _flops(speed: float) -> str:
    """Operations a second, readable."""
    return f"{speed / 1e12:,.1f} TFLOP/s" if speed >= 1e12 else f"{speed / 1e9:,.0f} GFLOP/s"
