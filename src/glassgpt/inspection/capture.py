"""What a model computes on its way, taken by name: hooks from outside, gone afterwards."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from glassgpt.errors import UserError, suggest
from glassgpt.model.attention import CausalSelfAttention, attention_scores, attention_weights
from glassgpt.model.cache import KVCache
from glassgpt.model.gpt import GPT
from glassgpt.model.layers import Block
from glassgpt.model.modes import evaluating

Ids = Sequence[int] | Tensor
_Keep = Callable[[str, Tensor], None]

_COMPARED = ("q", "k", "v", "scores", "weights", "attention")
_PRE_NORM = ("norm_1", *_COMPARED, "middle", "norm_2", "activations", "mlp", "residual")
_POST_NORM = (*_COMPARED, "norm_1", "middle", "activations", "mlp", "norm_2", "residual")


def names(model: nn.Module) -> list[str]:
    """All that can be captured, in the order in which the model computes it.

    | name | shape | what |
    |---|---|---|
    | `embedding` | (B, T, C) | what enters the first block: token, n-gram and position embeddings together |
    | `blocks.i.norm_1` | (B, T, C) | of block i: the output of its first norm |
    | `blocks.i.q` | (B, H, T, D) | queries, as they are compared: normalised and rotated |
    | `blocks.i.k`, `blocks.i.v` | (B, G, S, D) | keys, likewise, and values; with a cache, the earlier ones too |
    | `blocks.i.scores` | (B, H, T, S) | q kᵀ / √D, of keys to come as well |
    | `blocks.i.weights` | (B, H, T, S) | the softmax of those that may be seen |
    | `blocks.i.attention` | (B, T, C) | the attention's output |
    | `blocks.i.middle` | (B, T, C) | the residual stream after attention |
    | `blocks.i.norm_2` | (B, T, C) | the output of the second norm |
    | `blocks.i.activations` | (B, T, F) | inside the MLP, behind the activation function |
    | `blocks.i.mlp` | (B, T, C) | the MLP's output |
    | `blocks.i.residual` | (B, T, C) | the residual stream after the block |
    | `final_norm` | (B, T, C) | what the output layer reads |
    | `logits` | (B, T, V) | the model's output |

    Raises:
        UserError: the model is no GPT.
    """
    config = as_gpt(model).config
    steps = _PRE_NORM if config.norm_position == "pre" else _POST_NORM
    inside = [f"blocks.{layer}.{step}" for layer in range(config.n_layer) for step in steps]
    return ["embedding", *inside, "final_norm", "logits"]


def capture(model: nn.Module, ids: Ids, wanted: str | Iterable[str], cache: KVCache | None = None) -> dict[str, Tensor]:
    """Let a model read a text, and return what it computed on the way.

    Args:
        model: stays as it is.
        ids: tokens (T,). With a cache, those that follow what it holds.
        wanted: names out of `names(model)`, or patterns such as `blocks.*.weights`.
        cache: filled and advanced by T, if given.

    Returns:
        Tensors by name, in the order of `names`, float32 on the CPU.

    Raises:
        UserError: an unknown name, or a text that the model cannot read.
    """
    with capturing(model, wanted) as captured:
        read(model, ids, cache)
    return captured


@contextmanager
def capturing(model: nn.Module, wanted: str | Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Within this context, whatever the model computes is put into the dictionary that it yields.

    If the model runs several times, the last run's numbers stand there. Only what is wanted is copied, and whichever
    way the context is left, the model is as it was.

    Raises:
        UserError: an unknown name.
    """
    model = as_gpt(model)
    wanted_names = _matching(model, wanted)
    captured: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        if name in wanted_names:
            captured[name] = value.detach().to("cpu", torch.float32, copy=True)  # a cache writes on in its memory

    def output(module: nn.Module, *kept_as: str) -> None:
        if wanted_names.intersection(kept_as):

            def hook(_module: nn.Module, _inputs: Any, value: Tensor) -> None:
                for name in kept_as:
                    keep(name, value)

            undo.callback(module.register_forward_hook(hook).remove)

    def entry(module: nn.Module, kept_as: str) -> None:
        if kept_as in wanted_names:
            undo.callback(module.register_forward_pre_hook(lambda _module, inputs: keep(kept_as, inputs[0])).remove)

    with ExitStack() as undo:
        entry(model.blocks[0], "embedding")
        for layer, block in enumerate(model.blocks):
            assert isinstance(block, Block)
            at = f"blocks.{layer}."
            if model.config.norm_position == "pre":
                output(block.norm_1, at + "norm_1")
                entry(block.norm_2, at + "middle")
            else:
                output(block.norm_1, at + "norm_1", at + "middle")
            if wanted_names.intersection(at + step for step in _COMPARED[:-1]):
                _watch_attend(block.attn, at, keep, wanted_names, undo)
            output(block.attn, at + "attention")
            output(block.norm_2, at + "norm_2")
            entry(block.mlp.proj, at + "activations")
            output(block.mlp, at + "mlp")
            output(block, at + "residual")
        output(model.final_norm, "final_norm")
        output(model, "logits")
        yield captured


def _watch_attend(attention: CausalSelfAttention, at: str, keep: _Keep, wanted: set[str], undo: ExitStack) -> None:
    """Put a function around the attention function that sees what is compared, and changes nothing."""
    attend = attention.attend

    def watched(
        q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = True, dropout: float = 0.0
    ) -> Tensor:
        keep(at + "q", q)
        keep(at + "k", k)
        keep(at + "v", v)
        if at + "scores" in wanted:
            keep(at + "scores", attention_scores(q, k))
        if at + "weights" in wanted:  # the fused kernel never has them: worked out beside it
            keep(at + "weights", attention_weights(q, k, mask=mask, causal=causal))
        return attend(q, k, v, mask=mask, causal=causal, dropout=dropout)

    undo.callback(setattr, attention, "attend", attend)
    attention.attend = watched


@torch.no_grad()
def read(model: nn.Module, ids: Ids, cache: KVCache | None = None) -> Tensor:
    """The model's logits for a text, (1, T, V) where the model is; dropout off, no gradients.

    Raises:
        UserError: the text is empty, longer than the block or the room in the cache, or has ids that the model does not
            know; the cache is for several texts.
    """
    model = as_gpt(model)
    tokens = as_text(ids)
    room = model.config.block_size
    if cache is not None:
        room = min(room, cache.capacity) - cache.length
        if (rows := len(cache.keys[0])) != 1:
            raise UserError(f"one text is looked at, and the cache is for {rows}: make it with batch_size=1")
    if len(tokens) > room:
        raise UserError(f"{len(tokens)} tokens do not fit a context with room for {room}: shorten the text")
    if not 0 <= int(tokens.min()) <= int(tokens.max()) < model.config.vocabulary:
        wrong = tokens[(tokens < 0) | (tokens >= model.config.vocabulary)][0]
        raise UserError(f"token id {wrong} is not in the vocabulary (0 to {model.config.vocabulary - 1})")
    with evaluating(model):
        logits: Tensor = model(tokens[None].to(model.token_embedding.weight.device), cache)
    return logits


def as_text(ids: Ids) -> Tensor:
    """Tokens as a tensor, (T,) int64 on the CPU.

    Raises:
        UserError: there are none, or they are no row of whole numbers.
    """
    try:
        tokens = torch.as_tensor(ids).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"a text is a row of token ids, not {ids!r:.60}") from error
    if not tokens.numel():
        raise UserError("there is nothing to look at: give a text of one token or more")
    if tokens.dim() != 1 or tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        kind = str(tokens.dtype).removeprefix("torch.")
        raise UserError(f"a text is a row of token ids, (T,), not {kind} numbers of shape {tuple(tokens.shape)}")
    return tokens.long()


def as_gpt(model: nn.Module) -> GPT:
    """The model itself.

    Raises:
        UserError: it is no GPT, so there are no layers to look into.
    """
    if not isinstance(model, GPT):
        raise UserError(f"only a GPT can be looked into, and this is a {type(model).__name__}")
    return model


def _matching(model: GPT, wanted: str | Iterable[str]) -> set[str]:
    """The names that patterns stand for."""
    known, found = names(model), set[str]()
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        matches = [name for name in known if fnmatchcase(name, pattern)]
        if not matches:
            kinds = {re.sub(r"\d+", "*", name) for name in known}
            blocks = model.config.n_layer
            raise UserError(f"nothing to capture is called {pattern!r} (blocks 0 to {blocks - 1}): "
                            f"{suggest(re.sub(r'[0-9]+', '*', pattern), kinds)}")  # fmt: skip
        found.update(matches)
    return found
