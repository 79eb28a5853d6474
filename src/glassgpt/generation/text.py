"""From tokens to text: streamed, with stop strings held back, or whole."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from glassgpt.errors import UserError
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.engine import generate_ids
from glassgpt.generation.sampling import make_sampler
from glassgpt.tokenizers import Tokenizer

FinishReason = Literal["stop", "length"]


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
        finish_reason: "stop" for a stop string or `<|endoftext|>`, "length" for max_new_tokens.
    """

    text: str
    tokens: int
    finish_reason: FinishReason


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
    """Write text after a prompt, yielding pieces as they come; the pieces joined are the `text` it returns.

    Args:
        model: ids to logits; put into evaluation mode while it writes.
        prompt: at least one token.
        seed: the same seed gives the same text.
        crop_prompt: look only at the last block_size tokens of a longer prompt, instead of refusing it.

    Raises:
        UserError: the prompt is empty, longer than the block, or has characters that the tokenizer does not know.
    """
    context = prompt_ids(tokenizer, prompt, block_size, crop=crop_prompt)
    device = next(model.parameters()).device
    ids = torch.tensor([context], dtype=torch.int64, device=device)
    end_of_text = tokenizer.special_tokens.get("<|endoftext|>")
    decoder, stops = tokenizer.stream(), StopStrings(config.stop)
    pieces: list[str] = []
    count = 0
    was_training = model.training
    model.eval()
    try:
        sampler = make_sampler(config, seed)

        def sample(logits: Tensor, ids: Tensor) -> Tensor:
            if logits.isnan().any():
                raise UserError("the model's output is not a number: its weights are damaged, or its training diverged")
            return sampler(logits[:, : tokenizer.vocab_size], ids)  # a model may have room for more, to round V up

        steps = generate_ids(model, ids, sample, max_new_tokens=config.max_new_tokens, block_size=block_size)
        for step in steps:
            count += 1
            token = int(step)
            if token == end_of_text:
                break
            pieces.append(stops.push(decoder.push(token)))
            if pieces[-1]:
                yield pieces[-1]
            if stops.stopped:
                return Generation("".join(pieces), count, "stop")
    finally:
        model.train(was_training)
    reason: FinishReason = "length" if count and token != end_of_text else "stop"
    pieces.append(stops.push(decoder.finish()))
    pieces.append("" if stops.stopped else stops.finish())
    yield from (piece for piece in pieces[-2:] if piece)
    return Generation("".join(pieces), count, "stop" if stops.stopped else reason)


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
    """The same as `stream_text`, whole."""
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
        UserError: the prompt is empty, too long, or has characters that the tokenizer does not know.
    """
    ids = tokenizer.encode(prompt)
    if not ids:
        raise UserError("the prompt is empty: give at least one character to go on from")
    if len(ids) > block_size and not crop:
        raise UserError(
            f"the prompt has {len(ids)} tokens, but the model looks at {block_size}: "
            "shorten it, or crop it to its end (--crop-prompt)"
        )
    return ids[-block_size:]
