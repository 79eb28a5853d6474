"""From tokens to text: streamed, with stop strings held back, or whole."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from torch import nn

from glassgpt.errors import UserError, show
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.engine import Engine, FinishReason, Produced, Request
from glassgpt.generation.sampling import TokenLogprobs
from glassgpt.model.modes import evaluating
from glassgpt.tokenizers import Tokenizer


class StopStrings:
    """Lets text through until a stop string, holding back whatever may be the beginning of one.

    The stop string that is complete first ends the text, however the text is cut into pieces.
    """

    def __init__(self, stops: Sequence[str]):
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """Take a piece of text; return what may be shown. `stopped` is True once a stop string is there."""
        text = self._held + piece
        found = [(place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """Return what was held back."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


@dataclass(frozen=True)
class Generation:
    """A finished text.

    Attributes:
        text: what was written, without the prompt and the stop string.
        tokens: how many tokens were drawn.
        finish_reason: "stop" for a stop string or `<|endoftext|>`, "length" for max_new_tokens, or for a full
            context where `when_full` is "stop".
    """

    text: str
    tokens: int
    finish_reason: FinishReason


class TextStream:
    """From a request's tokens to its text: whole characters only, and what may begin a stop string is held back.

    Attributes:
        tokens: how many were pushed.
        finish_reason: why the text ended; None until it has.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]):
        self._decoder, self._stops = tokenizer.stream(), StopStrings(stops)
        self._end = end_of_text(tokenizer)
        self.tokens = 0
        self.finish_reason: FinishReason | None = None

    def push(self, token: Produced) -> str:
        """Take a token; return the text that may be shown. After a stop string, `finish_reason` is set."""
        self.tokens += 1
        text = "" if token.id in self._end else self._stops.push(self._decoder.push(token.id))
        if not self._stops.stopped and token.finish_reason is not None:
            text += self._stops.push(self._decoder.finish())
            text += "" if self._stops.stopped else self._stops.finish()
        self.finish_reason = "stop" if self._stops.stopped else token.finish_reason
        return text


def end_of_text(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that end a text."""
    end = tokenizer.special_tokens.get("<|endoftext|>")
    return frozenset() if end is None else frozenset({end})


@dataclass(frozen=True)
class Piece:
    """What one token added to a text.

    Attributes:
        text: "" while a character is not whole, or a stop string may have begun.
        id: the token.
        logprobs: its log-probability and those of others, if they were asked for.
    """

    text: str
    id: int
    logprobs: TokenLogprobs | None


def stream_pieces(
    engine: Engine,
    tokenizer: Tokenizer,
    prompt: str,
    config: SamplingConfig,
    *,
    seed: int = 0,
    crop_prompt: bool = False,
    logprobs: int | None = None,
) -> Generator[Piece, None, Generation]:
    """Write text after a prompt, token by token; the pieces' texts joined are the `text` it returns.

    Args:
        engine: only this text is its business while it is written: what it produces for others meanwhile is lost.
        prompt: at least one token.
        seed: the same seed gives the same text.
        crop_prompt: look only at the last block_size tokens of a longer prompt, instead of refusing it.
        logprobs: as in `Request`.

    Raises:
        UserError: the prompt is empty, longer than the block, or has characters that the tokenizer does not know; the
            context is to rotate, and the engine cannot.
    """
    ids = prompt_ids(tokenizer, prompt, engine.block_size, crop=crop_prompt)
    if config.when_full == "rotate" and not engine.rotating:
        raise UserError("when_full rotate: this engine was made without it: make it with rotating=True")
    ticket = engine.add(Request(ids, config, seed, end_of_text(tokenizer), logprobs))
    stream, written = TextStream(tokenizer, config.stop), []
    try:
        while stream.finish_reason is None:
            assert not engine.is_idle, "someone else took the end of this text from the engine"
            for token in engine.step():
                if token.ticket == ticket:
                    written.append(stream.push(token))
                    yield Piece(written[-1], token.id, token.logprobs)
    finally:
        engine.cancel(ticket)
    return Generation("".join(written), stream.tokens, stream.finish_reason)


def stream_text(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompt: str,
    config: SamplingConfig,
    *,
    block_size: int,
    seed: int = 0,
    crop_prompt: bool = False,
) -> Generator[str, None, Generation]:
    """The same with a model as it stands, in training perhaps; the text alone."""
    with evaluating(model):
        rotates = config.when_full == "rotate"
        size = tokenizer.vocab_size
        engine = Engine(model, block_size=block_size, vocab_size=size, mode="eager", rotating=rotates)
        pieces = stream_pieces(engine, tokenizer, prompt, config, seed=seed, crop_prompt=crop_prompt)
        return (yield from texts(pieces))


def texts(pieces: Generator[Piece, None, Generation]) -> Generator[str, None, Generation]:
    """Of pieces, the text alone."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            generation: Generation = end.value
            return generation
        if piece.text:
            yield piece.text


def generate_text(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompt: str,
    config: SamplingConfig,
    *,
    block_size: int,
    seed: int = 0,
    crop_prompt: bool = False,
) -> Generation:
    """The same, whole."""
    pieces = stream_text(model, tokenizer, prompt, config, block_size=block_size, seed=seed, crop_prompt=crop_prompt)
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            generation: Generation = end.value
            return generation


def prompt_ids(tokenizer: Tokenizer, prompt: str, block_size: int, *, crop: bool = False) -> list[int]:
    """The ids of a prompt, checked; with `crop`, the last block_size of them.

    Raises:
        UserError: the prompt is no text, is empty, too long, or has characters that the tokenizer does not know.
    """
    if not isinstance(prompt, str):
        raise UserError(f"a prompt is a text, not {show(prompt)}")
    ids = tokenizer.encode(prompt)
    if not ids:
        raise UserError("the prompt is empty: give at least one character to go on from")
    if len(ids) > block_size and not crop:
        raise UserError(
            f"the prompt has {len(ids)} tokens, but the model looks at {block_size}: "
            "shorten it, or crop it to its end (--crop-prompt)"
        )
    return ids[-block_size:]
