"""The engine: many requests at once, each with its own settings, beginning and ending between any two steps.

A request waits for a free row, its prompt is read, and from then on each step brings it one token; when it ends, its
row goes to the next one (continuous batching; Orca, Yu et al., 2022).
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, get_args

import torch
from torch import Tensor, nn

from glassgpt.errors import UserError, show
from glassgpt.generation.arguments import whole_number
from glassgpt.generation.decoder import Mode, Weights, make_decoder
from glassgpt.generation.requests import FinishReason, Produced, Request
from glassgpt.generation.sampling import TokenLogprobs, TokenSampler, log_probabilities
from glassgpt.model.gpt import GPT
from glassgpt.waiting import begin_work

__all__ = ["Engine", "FinishReason", "Produced", "Request"]


@dataclass
class _Running:
    """A request that has a row."""

    ticket: int
    request: Request
    row: int
    sampler: TokenSampler
    produced: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._different = set(self.request.prompt)

    @property
    def text(self) -> list[int]:
        """All of its ids."""
        return [*self.request.prompt, *self.produced]

    @property
    def last(self) -> int:
        """The one to go on from."""
        return self.produced[-1]

    def note(self, chosen: int) -> None:
        """Add an id."""
        self.produced.append(chosen)
        self._different.add(chosen)

    def different(self) -> Tensor:
        """Its ids, each once: no more than the vocabulary has, however long the text."""
        return torch.tensor(list(self._different))


class Engine:
    """Continues prompts with a model, some at a time.

    Add requests whenever you like, call `step` until `is_idle`. A prompt that begins as one that a row still holds is
    read from there on only, so several samples of one prompt share its reading.

    When a row's context is full, `SamplingConfig.when_full` says what happens. To `rotate` takes an engine made for it.

    Args:
        model: maps ids (B, T) to logits (B, T, V); a `GPT` decodes with a cache, and as in evaluation mode; others
            are taken as they are. Weights that change later are not noticed: make another engine for them.
        slots: how many requests run at a time.
        block_size: the most tokens that the model can look at; a `GPT` knows.
        vocab_size: how many of the logits count; left out: all. A model may have room for more, to round them up.
        mode, weights, rotating, tokens, tell: see `decoder.Decoder`.

    Raises:
        UserError: the mode is not possible here, or the model cannot rotate.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        slots: int = 1,
        block_size: int | None = None,
        vocab_size: int | None = None,
        mode: Mode = "auto",
        weights: Weights = "float32",
        rotating: bool = False,
        tokens: int = 0,
        tell: Callable[[str], None] = lambda _: None,
    ):
        self.slots = whole_number(slots, "slots", 1, 2**16)
        self.vocab_size = None if vocab_size is None else whole_number(vocab_size, "vocab_size", 1, 2**31)
        block_size = None if block_size is None else whole_number(block_size, "block_size", 1, 2**31)
        for name, value, known in (("mode", mode, get_args(Mode)), ("weights", weights, get_args(Weights))):
            if value not in known:
                raise UserError(f"{name}: one of {', '.join(known)}, not {show(value)}")
        tokens = whole_number(tokens, "tokens", 0, 2**63)
        self._vocabulary = model.config.vocabulary if isinstance(model, GPT) else vocab_size
        options: dict[str, Any] = {
            "mode": mode,
            "weights": weights,
            "rotating": rotating,
            "tokens": tokens,
            "tell": tell,
        }
        self._decoder = make_decoder(model, self.slots, block_size, **options)
        self._device = self._decoder.device
        self.block_size = self._decoder.block_size
        self.rotating = rotating
        self._waiting: deque[tuple[int, Request]] = deque()
        self._running: dict[int, _Running] = {}  # by row
        self._produced: list[Produced] = []  # in the step that is being taken, or that failed
        self._next_ticket = 0

    @property
    def mode(self) -> Mode:
        """How steps are taken: eager, compiled or graphs."""
        return self._decoder.mode

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, nothing waits, and a step that failed has left nothing to be fetched."""
        return not (self._running or self._waiting or self._produced)

    def add(self, request: Request) -> int:
        """Take a request; it begins with one of the next steps.

        Returns:
            Its ticket.

        Raises:
            UserError: the prompt is longer than the block, or has ids that there are not; or the context is to rotate,
                and the engine was not made for that.
        """
        if not isinstance(request, Request):
            raise UserError(f"a Request is needed, not {show(request)}")
        if len(request.prompt) > self.block_size:
            raise UserError(f"a prompt of {len(request.prompt)} tokens: 1 to {self.block_size} can be read")
        if min(request.prompt) < 0 or (self._vocabulary and max(request.prompt) >= self._vocabulary):
            last = f" to {self._vocabulary - 1}" if self._vocabulary else ""
            raise UserError(f"a prompt with ids that there are not: they go from 0{last}")
        if request.sampling.when_full == "rotate" and not self.rotating:
            raise UserError("when_full rotate: the engine was made without rotating=True")
        ticket = self._next_ticket
        self._next_ticket += 1
        self._waiting.append((ticket, request))
        return ticket

    def cancel(self, ticket: int) -> None:
        """Forget a request, whether it waits, runs, or has ended."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] != ticket)
        self._running = {row: running for row, running in self._running.items() if running.ticket != ticket}
        self._produced = [token for token in self._produced if token.ticket != ticket]

    def step(self) -> list[Produced]:
        """One token for each request that has a row, those that now get one included.

        Where a request fails, in its prompt or its logits, it is forgotten and the error raised; all others go on with
        the next step, which brings what this one had produced for them, too.
        """
        begin_work(self._device)
        going_on = list(self._running.values())
        while self._waiting and len(self._running) < self.slots:
            self._admit()
        full = [running for running in going_on if self._is_full(running)]
        for running in full:  # its last half is read again, from position 0
            del self._running[running.row]  # should the reading fail, it is forgotten, as a prompt's reading is
            logits = self._decoder.read(running.row, running.text[-max(1, self.block_size // 2) :])
            self._running[running.row] = running
            self._choose(running, logits)
        if ready := [running for running in going_on if running not in full]:
            logits = self._decoder.step({running.row: running.last for running in ready})
            if all(running.sampler.is_greedy and running.request.logprobs is None for running in ready):
                self._choose_likeliest(ready, logits)
            else:
                self._choose_each(ready, logits.cpu())
        produced, self._produced = self._produced, []
        return produced

    def _admit(self) -> None:
        """Give the lowest free row to the next one: as many rows are computed as the highest one in use."""
        ticket, request = self._waiting.popleft()
        row = next(row for row in range(self.slots) if row not in self._running)
        running = _Running(ticket, request, row, TokenSampler(request.sampling, request.seed))
        logits = self._read(running)
        self._running[row] = running
        self._choose(running, logits)

    def _read(self, running: _Running) -> Tensor:
        """Read the prompt, from where it differs from all that the rows hold. Returns what comes next, (V,)."""
        decoder, prompt, row = self._decoder, running.request.prompt, running.row
        shared = {other: self._shared(prompt, other) for other in range(self.slots)}
        best = max(shared, key=lambda other: (shared[other], other == row))
        if best != row and shared[best]:
            decoder.copy(best, row, shared[best])
        return decoder.read(row, prompt, keep=shared[best])

    def _shared(self, prompt: Sequence[int], row: int) -> int:
        """How many tokens of a prompt a row holds, less than all of them: the last has to be read."""
        held = self._decoder.tokens[row]
        if len(held) > self.block_size or not self._decoder.can_share:
            return 0  # it has gone on past its block, and its first tokens are written over
        pairs = zip(held, prompt[:-1], strict=False)
        return next((n for n, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(held), len(prompt) - 1))

    def _is_full(self, running: _Running) -> bool:
        """Whether a row has no room for one more token."""
        rotates = self.rotating and running.request.sampling.when_full == "rotate"
        return self._decoder.positions[running.row] >= self.block_size and not rotates

    def _choose_likeliest(self, ready: list[_Running], logits: Tensor) -> None:
        """The likeliest token of each row, all rows at once."""
        if logits.device.type == "cpu":  # numpy finds it ten times as fast
            scores = logits.numpy()[:, : self.vocab_size]
            chosen = scores.argmax(axis=-1).tolist()
            best = [scores[row, token] for row, token in enumerate(chosen)]
        else:
            best, chosen = (found.tolist() for found in logits[:, : self.vocab_size].max(dim=-1))
        if all(isfinite(best[running.row]) for running in ready):  # NaN counts as the largest, there and here
            for running in ready:
                self._note(running, chosen[running.row], None)
        else:
            self._choose_each(ready, logits.cpu())

    def _choose_each(self, ready: list[_Running], logits: Tensor) -> None:
        """The next token of each row, by its own sampler; the first error is raised when all have had their turn."""
        errors = []
        for running in ready:
            try:
                self._choose(running, logits[running.row])
            except UserError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _choose(self, running: _Running, logits: Tensor) -> None:
        """The next token of one request, by its own sampler. Logits: (V,)."""
        logits, sampler, wanted = logits[: self.vocab_size].cpu(), running.sampler, running.request.logprobs
        try:
            chosen = sampler.choose(logits, running.different() if sampler.needs_ids else None)
            logprobs = None if wanted is None else log_probabilities(logits, chosen, wanted)
        except UserError:
            del self._running[running.row]
            raise
        self._note(running, chosen, logprobs)

    def _note(self, running: _Running, chosen: int, logprobs: TokenLogprobs | None) -> None:
        """Count a token, and see whether it is the last."""
        request = running.request
        running.note(chosen)
        reason: FinishReason | None = None
        ends_when_full = request.sampling.when_full == "stop"
        if chosen in request.end_ids:
            reason = "stop"
        elif len(running.produced) >= request.sampling.max_new_tokens or (ends_when_full and self._is_full(running)):
            reason = "length"
        if reason is not None:
            del self._running[running.row]
        self._produced.append(Produced(running.ticket, chosen, logprobs, reason))
