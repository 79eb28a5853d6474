"""How gradients flow through a step: how hard each part is pulled at, how far it moves, what the blocks compute."""

import math
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glassgpt.model.gpt import GPT
from glassgpt.model.layers import Block

TINY = 0.01


@dataclass(frozen=True)
class PartFlow:
    """The parameters of one part, such as a layer's `attn.qkv`, taken as one vector.

    Attributes:
        grad_norm: length of the gradient, before clipping. Not finite where the step was skipped for it.
        weight_norm: length of the weights before the step.
        update_ratio: length of what the step changed them by, over `weight_norm`; not a number where that is 0.
    """

    grad_norm: float
    weight_norm: float
    update_ratio: float


@dataclass(frozen=True)
class BlockFlow:
    """What one block computed from all tokens of the step, weights and dropout being those of the step.

    (Dropout is another draw where the step was compiled: compiled code takes its random numbers in another order.)

    Attributes:
        mean, std: of the MLP's activations, those that go into `mlp.proj`, over all units and positions.
        tiny: share of them below a hundredth of their root mean square in size (that of their batch).
        dead: share of units that are exactly 0 at every position. Only ReLU and its square make such zeros in earnest:
            a GELU or SiLU that has gone silent shows in `tiny`.
        residual_mean, residual_std: of the residual stream behind the block.
    """

    mean: float
    std: float
    tiny: float
    dead: float
    residual_mean: float
    residual_std: float


@dataclass(frozen=True)
class Flow:
    """What was seen in one step.

    Attributes:
        parts: by name, in the model's order: `blocks.0.attn.qkv`, `blocks.0.norms` (all of them), `token_embedding`.
        blocks: by name, `blocks.0`. Empty for a model that is no GPT.
    """

    parts: dict[str, PartFlow]
    blocks: dict[str, BlockFlow]

    def as_json(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """The same as JSON data, to the digits that float32 has; None for what is not finite."""
        return {
            kind: {
                name: {key: float(f"{value:.7g}") if math.isfinite(value) else None for key, value in figures.items()}
                for name, figures in named.items()
            }
            for kind, named in asdict(self).items()
        }


def part_of(parameter: str) -> str:
    """The part that a parameter belongs to, by its name: its layer, all norms of a block taken together."""
    module = parameter.rpartition(".")[0] or parameter
    block = re.match(r"blocks\.\d+", module)
    if block is None:
        return module.partition(".")[0]
    if "norm" in module:
        return f"{block[0]}.norms"
    return f"{block[0]}.layer_scale" if re.search(r"\.scale_\d$", module) else module


class Watch:
    """Looks at one optimizer step. It is to be made when the gradients are there, and nothing is clipped or moved yet.

    What the blocks compute comes from one more forward pass without gradients, of the model as it is: hooks on a
    compiled one would have it compiled again, and activation checkpointing would call them twice.

    Args:
        model: in training mode, its random state as it was before the step's forward pass.
        batches: ids (B, T) that the step is made from.
    """

    @torch.no_grad()
    def __init__(self, model: nn.Module, batches: Sequence[Tensor]):
        self._parameters = dict(model.named_parameters())
        self._before = [p.clone() for p in self._parameters.values()]
        self._grad_norms = self._lengths([_gradient(p) for p in self._parameters.values()])
        self._blocks = _look_into_blocks(model, batches) if isinstance(model, GPT) else {}

    @torch.no_grad()
    def flow(self) -> Flow:
        """What was seen; to be called once, when the step has been made."""
        weight_norms = self._lengths(self._before)
        torch._foreach_sub_(self._before, list(self._parameters.values()))  # in place: there is one copy, not two
        updates = self._lengths(self._before)
        parts = {
            name: PartFlow(self._grad_norms[name], length, updates[name] / length if length else math.nan)
            for name, length in weight_norms.items()
        }
        return Flow(parts, self._blocks)

    def _lengths(self, tensors: list[Tensor]) -> dict[str, float]:
        """The length of each part, from a tensor for each parameter."""
        lengths: dict[str, list[float]] = {}
        each = torch.stack([length.float() for length in torch._foreach_norm(tensors)]).tolist()
        for name, length in zip(self._parameters, each, strict=True):
            lengths.setdefault(part_of(name), []).append(length)
        return {name: math.hypot(*found) for name, found in lengths.items()}


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _look_into_blocks(model: GPT, batches: Sequence[Tensor]) -> dict[str, BlockFlow]:
    watches: dict[str, _BlockWatch] = {}
    with ExitStack() as undo:
        for layer, block in enumerate(model.blocks):
            watches[f"blocks.{layer}"] = _BlockWatch(block, undo)
        for ids in batches:
            model(ids)
    return {name: watch.flow() for name, watch in watches.items()}


class _BlockWatch:
    """Adds up what goes by in one block, batch by batch. Figures stay on the device until `flow` reads them.

    Its hooks go when `undo` is closed.
    """

    def __init__(self, block: nn.Module, undo: ExitStack):
        assert isinstance(block, Block)
        undo.callback(block.mlp.proj.register_forward_pre_hook(self._see_activations).remove)
        undo.callback(block.register_forward_hook(self._see_residual).remove)
        self._alive: Tensor | None = None  # (F,)
        self._activations: list[Tensor] = []  # (4,) each: how many, mean, variance, share of tiny ones
        self._residual: list[Tensor] = []  # (3,) each

    def _see_activations(self, _proj: nn.Module, args: tuple[Tensor]) -> None:
        x = args[0].float()  # (B, T, F)
        count, mean, variance = _moments(x)
        size = x.abs()
        alive = size.amax((0, 1)) > 0
        self._alive = alive if self._alive is None else self._alive | alive
        tiny = size < TINY * (mean.square() + variance).sqrt()
        self._activations.append(torch.stack((count, mean, variance, tiny.float().mean())))

    def _see_residual(self, _block: nn.Module, _args: Any, out: Tensor) -> None:
        self._residual.append(torch.stack(_moments(out.float())))

    def flow(self) -> BlockFlow:
        assert self._alive is not None
        rows = torch.stack(self._activations).tolist()
        tiny = sum(count * share for count, _, _, share in rows) / sum(count for count, *_ in rows)
        dead = 1 - self._alive.float().mean().item()
        return BlockFlow(*_pooled(rows), tiny, dead, *_pooled(torch.stack(self._residual).tolist()))


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many numbers, their mean, and their variance."""
    variance, mean = torch.var_mean(x, correction=0)
    return torch.full_like(mean, x.numel()), mean, variance


def _pooled(rows: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Mean and standard deviation of all numbers, from the moments of each batch."""
    total = sum(count for count, *_ in rows)
    mean = sum(count * mean for count, mean, *_ in rows) / total
    variance = sum(count * (variance + (own - mean) ** 2) for count, own, variance, *_ in rows) / total
    return mean, math.sqrt(variance)
