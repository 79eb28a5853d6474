"""Writing text with glassgpt beside others: the same weights, the same prompts, in turn, and memory read with them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import glassgpt
from glassgpt.bench import llama_cpp
from glassgpt.bench.limits import measure_memory_read
from glassgpt.bench.machine import Machine, this_machine
from glassgpt.bench.pairing import Spread, turns, undisturbed
from glassgpt.bench.training import THEIRS, import_transformers
from glassgpt.bench.writers import Glassgpt, Transformers, Writer
from glassgpt.bench.writing import Writing
from glassgpt.device import set_seed
from glassgpt.model.gpt import GPT
from glassgpt.model.sizing import sizes

TURN_SECONDS = 1.0  # that a side writes at least, of each kind, in a round
SETTLE_SECONDS = 0.05  # until threads that still wait for work of the side before have gone to sleep
FIRST_CALLS = 2  # what is compiled is compiled by then


@dataclass
class Turns:
    """What the turns of one side came to, one figure a round.

    Attributes:
        decode: tokens a second after the first, one text alone.
        batch: the same, of all texts at once together.
        prefill: tokens of the long prompt a second, the first new token included.
        first_token: seconds until the first new token after the short prompt.
    """

    decode: list[float] = field(default_factory=list)
    batch: list[float] = field(default_factory=list)
    prefill: list[float] = field(default_factory=list)
    first_token: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """One side of a comparison; see `Turns` for what is not explained here.

    Attributes:
        how: number format of the matrices, and what the side chose for itself.
        bandwidth_share: of the memory's bandwidth, as read in the same rounds, that `decode` comes to.
        batch_gain: how many times as many tokens a second several texts at once get as one alone.
        ratios: how many times as fast glassgpt is, by figure; empty for glassgpt.
        first_seconds: of the first call, in which an engine is made or compiled, or a file loaded.
        bytes_per_token: that are read from memory, at least, for one token of one text.
    """

    name: str
    how: str
    decode: Spread
    bandwidth_share: Spread
    batch: Spread | None
    batch_gain: Spread | None
    prefill: Spread
    first_token: Spread
    ratios: dict[str, Spread]
    first_seconds: float
    bytes_per_token: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON data, with every round."""
        return {
            "name": self.name,
            "how": self.how,
            "tokens_per_second": self.decode.to_dict(),
            "memory_bandwidth_share": self.bandwidth_share.to_dict(),
            "batch_tokens_per_second": self.batch and self.batch.to_dict(),
            "batch_times_one": self.batch_gain and self.batch_gain.to_dict(),
            "prefill_tokens_per_second": self.prefill.to_dict(),
            "first_token_seconds": self.first_token.to_dict(),
            "first_call_seconds": self.first_seconds,
            "bytes_per_token": self.bytes_per_token,
            "glassgpt_times_as_fast": {name: ratio.to_dict() for name, ratio in self.ratios.items()} or None,
        }


@dataclass(frozen=True)
class Comparison:
    """What a comparison came to: glassgpt first, and bytes a second read from memory in the same rounds."""

    writing: Writing
    machine: Machine
    sides: list[Measured]
    memory_read: Spread
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON data, every round included."""
        writing = self.writing
        return {
            **{key: value for key, value in vars(writing).items() if key not in ("name", "model", "changes")},
            "shape": writing.name,
            "model": writing.model.model_dump(),
            "changes": list(writing.changes),
            "short_prompt_tokens": writing.short_prompt,
            "parameters": sizes(writing.model).parameters,
            "machine": self.machine.to_dict(),
            "versions": self.versions,
            "memory_read_bytes_per_second": self.memory_read.to_dict(),
            "sides": [side.to_dict() for side in self.sides],
        }


def compare_generation(
    writing: Writing,
    against: Sequence[str],
    *,
    device: torch.device,
    rounds: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Let glassgpt and others continue the same prompts in turn, and read memory in the same rounds.

    Args:
        writing: what is written.
        against: names from `writing.OTHERS`.
        device: where glassgpt and transformers work.
        rounds: how many.
        tell: is told what is under way.
    """
    set_seed(0, device)
    model = GPT(writing.model).to(device).eval()
    writers: list[Writer] = []
    prompts: dict[str, _Prompts] = {}
    first_seconds: dict[str, float] = {}
    try:
        for name in (Glassgpt.name, *against):
            tell(f"warming up: {name}")
            writers.append(_make_writer(name, model, writing, tell))
            prompts[name] = _Prompts(writing)
            first_seconds[name] = _warm_up(writers[-1], writing, prompts[name])
        found = {writer.name: Turns() for writer in writers}
        read: list[float] = []
        for number, writer in turns(writers, rounds):
            tell(f"round {number} of {rounds}: {writer.name}")
            if len(read) < number:
                read.append(measure_memory_read(device))
            time.sleep(SETTLE_SECONDS)
            with undisturbed():
                _turn(writer, writing, prompts[writer.name], found[writer.name])
        memory_read = Spread(tuple(read))
        sides = [_measured(writer, writing, found, memory_read, first_seconds[writer.name]) for writer in writers]
    finally:
        for writer in writers:
            writer.close()
    versions = {"glassgpt": glassgpt.__version__, "torch": str(torch.__version__)}
    if THEIRS in against:
        versions[THEIRS] = import_transformers().__version__
    if llama_cpp.NAME in against:
        versions["xllamacpp"] = llama_cpp.import_llama_cpp().__version__
    return Comparison(writing, this_machine(device), sides, memory_read, versions)


class _Prompts:
    """Prompts at random: what they say does not change the speed. Each side gets the same, and none ever again, so that
    nothing can be kept from the last time.
    """

    def __init__(self, writing: Writing):
        self._vocabulary = writing.model.vocabulary
        self._random = np.random.default_rng(0)

    def draw(self, rows: int, length: int) -> list[list[int]]:
        """The next ones."""
        ids: list[list[int]] = self._random.integers(self._vocabulary, size=(rows, length)).tolist()
        return ids


def _make_writer(name: str, model: GPT, writing: Writing, tell: Callable[[str], None]) -> Writer:
    if name == Glassgpt.name:
        return Glassgpt(model, mode=writing.mode, weights=writing.weights, tell=tell)
    return Transformers(model) if name == THEIRS else llama_cpp.LlamaCpp(model, weights=writing.weights)


def _warm_up(writer: Writer, writing: Writing, prompts: _Prompts) -> float:
    """Write some texts of each kind; seconds until the first one was there."""
    began = time.perf_counter()
    writer.write(prompts.draw(1, writing.short_prompt), writing.new_tokens)
    first_seconds = time.perf_counter() - began
    for _ in range(FIRST_CALLS):
        for rows in {1, writing.batch}:
            writer.write(prompts.draw(rows, writing.short_prompt), writing.new_tokens)
        writer.write(prompts.draw(1, writing.prompt_tokens), 1)
    return first_seconds


def _turn(writer: Writer, writing: Writing, prompts: _Prompts, found: Turns) -> None:
    """Write for some seconds of each kind."""
    decode, first = _rates(writer, prompts, (1, writing.short_prompt), writing.new_tokens)
    found.decode.append(decode)
    found.first_token.append(first)
    if writing.batch > 1:
        found.batch.append(_rates(writer, prompts, (writing.batch, writing.short_prompt), writing.new_tokens)[0])
    found.prefill.append(writing.prompt_tokens / _rates(writer, prompts, (1, writing.prompt_tokens), 1)[1])


def _rates(writer: Writer, prompts: _Prompts, shape: tuple[int, int], new_tokens: int) -> tuple[float, float]:
    """Tokens a second after the first ones, and seconds until those, over several calls with prompts of a shape."""
    calls, tokens, first, rest = 0, 0, 0.0, 0.0
    while not calls or first + rest < TURN_SECONDS:
        written = writer.write(prompts.draw(*shape), new_tokens)
        calls += 1
        tokens += written.rest_tokens
        first += written.first_seconds
        rest += written.rest_seconds
    return tokens / rest if tokens else 0.0, first / calls


def _measured(
    writer: Writer, writing: Writing, found: dict[str, Turns], memory_read: Spread, first_seconds: float
) -> Measured:
    """The figures of a side from its turns, and from glassgpt's in the same rounds."""
    mine, ours = found[writer.name], found[Glassgpt.name]
    each = writing.bytes_per_token(writer.weight_bytes, writer.cache_bytes)
    decode, batch = Spread(tuple(mine.decode)), Spread(tuple(mine.batch)) if mine.batch else None
    ratios = {}
    if mine is not ours:
        for kind in ("decode", *(["batch"] if batch else []), "prefill"):
            ratios[kind] = Spread(tuple(getattr(ours, kind))) / Spread(tuple(getattr(mine, kind)))
        ratios["first_token"] = Spread(tuple(mine.first_token)) / Spread(tuple(ours.first_token))
    return Measured(
        name=writer.name,
        how=writer.how,
        decode=decode,
        bandwidth_share=Spread(tuple(speed * each for speed in mine.decode)) / memory_read,
        batch=batch,
        batch_gain=batch and batch / decode,
        prefill=Spread(tuple(mine.prefill)),
        first_token=Spread(tuple(mine.first_token)),
        ratios=ratios,
        first_seconds=first_seconds,
        bytes_per_token=each,
    )
