"""Decoding: tokens a second by mode and by batch, beside transformers' GPT-2 with the same weights."""

import gc
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from glassgpt.bench.limits import measure_memory_read
from glassgpt.bench.pairing import Spread, turns, undisturbed
from glassgpt.bench.training import import_transformers
from glassgpt.bench.writers import Glassgpt, Transformers, Writer
from glassgpt.bench.writing import Writing, find_writing
from glassgpt.model.gpt import GPT

from .part import Place
from .stand_in import graphs_on_cpu

SHAPES = ("10.7M", "124M")
BATCHES = (1, 16, 64)
NEW_TOKENS, ROUNDS = 100, 2
NEEDED = 6.0  # seconds for one batch of one shape, a guess for a card
TINY = {"n_layer": 1, "n_head": 2, "n_embd": 32, "block_size": 32, "vocab_size": 64}


def measure(place: Place) -> None:
    """The larger one first, as it has more to say."""
    stand_in = graphs_on_cpu() if place.device == "cpu" else nullcontext()
    with stand_in:
        for shape in reversed(SHAPES):
            changes, new_tokens = ({"model": TINY}, 8) if place.small else ({}, NEW_TOKENS)
            writing = find_writing(shape, changes, new_tokens=new_tokens)
            torch.manual_seed(0)
            model = GPT(writing.model).to(place.device).eval()
            writers = _writers(place, model, shape)
            for batch in (1, 3) if place.small else BATCHES:
                needs = 0.0 if place.small else NEEDED
                names = {"model": shape, "batch": batch}
                place.attempt(lambda b=batch, w=writing, s=writers: _compare(place, w, b, s), needs=needs, **names)
            del writers, model
            gc.collect()


def _writers(place: Place, model: GPT, shape: str) -> dict[str, Writer]:
    """By name. Who compiles for a CPU first is left out where it is to be quick."""
    modes = ("eager", "graphs") if place.device != "cpu" or place.small else ("eager", "compiled")
    found: dict[str, Writer] = {f"glassgpt, {mode}": Glassgpt(model, mode=mode) for mode in modes}  # type: ignore[arg-type]
    if place.device != "cpu":
        place.add(model=shape, side="glassgpt, compiled", state="skipped", why="the mode compiled is for CPUs")
    try:
        import_transformers()
    except Exception as error:
        place.add(model=shape, side="transformers", state="skipped", why=str(error))
    else:
        found["transformers"] = Transformers(model)
    return found


def _compare(place: Place, writing: Writing, batch: int, writers: dict[str, Writer]) -> None:
    """All sides in turn, with the same prompts in each round; the first round warms up."""
    random = np.random.default_rng(batch)
    rates: dict[str, list[float]] = {name: [] for name in writers}
    first: dict[str, list[float]] = {name: [] for name in writers}
    read: list[float] = []
    agree: dict[str, list[float]] = {name: [] for name in writers}
    prompts: list[list[int]] = []
    written: dict[str, list[list[int]]] = {}
    for number, name in turns(list(writers), (1 if place.small else ROUNDS) + 1):
        if len(written) in (0, len(writers)):
            prompts = random.integers(writing.model.vocabulary, size=(batch, writing.short_prompt)).tolist()
            written.clear()
            if not place.small:
                read.append(measure_memory_read(torch.device(place.device)))
        with undisturbed():
            result = writers[name].write(prompts, writing.new_tokens)
        written[name] = result.ids
        if number > 1:
            rates[name].append(result.rest_tokens / result.rest_seconds)
            first[name].append(result.first_seconds)
        if len(written) == len(writers):
            reference = written[next(iter(writers))]
            for other, ids in written.items():
                agree[other].append(same_share(ids, reference))
    for name, found in rates.items():
        speed = Spread(tuple(found))
        row: dict[str, Any] = {"tokens_per_second": speed.to_dict(), "first_seconds": min(first[name])}
        if read and batch == 1:
            each = writing.bytes_per_token(4.0, 4.0)
            row["memory_bandwidth_share"] = speed.median * each / Spread(tuple(read)).median
        place.add(model=writing.name, batch=batch, side=name, **row, same_ids_as_eager=min(agree[name]))


def same_share(ids: Sequence[Sequence[int]], reference: Sequence[Sequence[int]]) -> float:
    """The share of texts that are the same."""
    return sum(list(a) == list(b) for a, b in zip(ids, reference, strict=True)) / len(reference)
