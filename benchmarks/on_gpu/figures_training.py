"""Training: tokens a second and the share of the peak, beside transformers' GPT-2, eager and compiled, by batch."""

import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from glassgpt.bench.limits import MATMUL, matmul_side
from glassgpt.bench.pairing import Side, Spread, take_turns
from glassgpt.bench.training import import_transformers, ours, theirs
from glassgpt.bench.work import Work, find_work
from glassgpt.device import choose_device
from glassgpt.training.precision import choose_precision

from .part import Place

CONTEXT_AND_BATCH = {"10.7M": (256, 64), "124M": (1024, 32)}
BATCHES = {"10.7M": (16, 256), "124M": (8, 64)}  # tried beside that, glassgpt alone
ROUNDS, SECONDS = 3, 1.5
NEEDED = {False: 25.0, True: 75.0}  # seconds for a comparison, uncompiled and compiled
TINY = {"n_layer": 1, "n_head": 2, "n_embd": 32, "block_size": 16, "vocab_size": 64}


def measure(place: Place) -> None:
    """First everything as it is, then compiled, then other batches, as far as the time goes."""
    for compile_ in (False, True):
        for shape in CONTEXT_AND_BATCH:
            if place.small and compile_ and shape == "124M":
                continue  # a CPU's compiler takes as long for both
            _compare(place, shape, compile_=compile_)
    for compile_ in (False, True):
        for shape, batches in BATCHES.items():
            for batch in () if place.small and compile_ else batches:
                needs = 0.0 if place.small else NEEDED[compile_] / 2
                names = {"model": shape, "batch": batch, "compiled": compile_, "side": "glassgpt"}
                place.attempt(lambda n=names: _alone(place, **n), needs=needs, **names)
                _clean()


def work_of(place: Place, shape: str, batch: int, *, compile_: bool) -> Work:
    """What is trained, in the number format that `auto` takes there."""
    model: dict[str, Any] = {"block_size": CONTEXT_AND_BATCH[shape][0], **(TINY if place.small else {})}
    settings = {"device": place.device, "compile": compile_, "precision": "auto"}
    return find_work(shape, {"model": model, "training": {"batch_size": 2 if place.small else batch}}, settings)


def _compare(place: Place, shape: str, *, compile_: bool) -> None:
    """glassgpt, transformers with its fused AdamW, and matrix products, in turn."""
    work = work_of(place, shape, CONTEXT_AND_BATCH[shape][1], compile_=compile_)
    names = {"model": shape, "batch": work.training.batch_size, "compiled": compile_}
    needs = 0.0 if place.small else NEEDED[compile_]

    def compare() -> None:
        sides = [ours(work)]
        try:
            import_transformers()
        except Exception as error:
            place.add(**names, side="transformers", state="skipped", why=str(error))
        else:
            sides.append(theirs(work, fused=True))
        for row in _timed(place, work, sides):
            place.add(**names, **row)

    place.attempt(compare, needs=needs, **names)
    _clean()


def _alone(place: Place, *, model: str, batch: int, compiled: bool, side: str) -> None:
    """glassgpt with another batch; on a card, with the memory that it takes."""
    work = work_of(place, model, batch, compile_=compiled)
    device = torch.device(place.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for row in _timed(place, work, [replace(ours(work), name=side)]):
        if device.type == "cuda":
            row["peak_bytes"] = torch.cuda.max_memory_allocated(device)
        place.add(model=model, batch=batch, compiled=compiled, **row)


def _timed(place: Place, work: Work, sides: Sequence[Side]) -> list[dict[str, Any]]:
    """A row for each side, with its share of what matrix products came to in the same rounds (the MFU)."""
    device = choose_device(place.device)
    dtype = choose_precision(device, work.training.precision)
    rounds, seconds = (1, 0.05) if place.small else (ROUNDS, SECONDS)
    products = replace(matmul_side(device, dtype), most_seconds=min(0.3, seconds))
    limited = [replace(side, most_seconds=seconds) for side in sides] if place.small else sides
    _, timed = take_turns([*limited, products], rounds=rounds, seconds=seconds)
    peak = timed[MATMUL].rate
    found = []
    for side in sides:
        speed, first = timed[side.name].rate, timed[side.name].first_seconds
        flops = Spread(tuple(rate * work.flops_per_token for rate in speed.rounds))
        found.append(
            {
                "side": side.name,
                "precision": str(dtype).removeprefix("torch."),
                "parameters": work.parameters,
                "context": work.model.block_size,
                "tokens_per_second": speed.to_dict(),
                "mfu": (flops / peak).to_dict(),
                "matmul_flops_per_second": peak.median,
                "step_ms": 1e3 * work.tokens / speed.median,
                "first_steps_seconds": first,
            }
        )
    return found


def _clean() -> None:
    """What was measured gives its memory back, and the compiler forgets it."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
