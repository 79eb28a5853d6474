"""AdamW and Muon by hand, which parameters each of them moves, and how the learning rate goes.

torch.optim has both. Here, AdamW's arithmetic is torch's own fused kernel where there is one, so it is as fast; but
making a `torch.optim.Optimizer` loads torch's compiler, a second that a run of ten seconds would notice. Muon takes
all matrices of one shape at once, where torch's takes them one by one.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glassgpt.errors import UserError
from glassgpt.recipes import TrainingConfig
from glassgpt.tensor_files import check_tensors

Named = dict[str, nn.Parameter]


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2017), for a few parameters of one learning rate."""

    def __init__(self, parameters: Named, peak: float, weight_decay: float, config: TrainingConfig):
        self.parameters, self.peak, self.weight_decay = parameters, peak, weight_decay
        self.beta1, self.beta2, self.eps = config.beta1, config.beta2, config.eps
        self.state = {
            name: {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p), "step": _count(p)}
            for name, p in parameters.items()
        }
        self._update = _adamw_fused if _has_fused_adamw(parameters) else _adamw_by_hand

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move each parameter that has a gradient. `rate`: the learning rate now."""
        moved = [name for name, p in self.parameters.items() if p.grad is not None]
        if not moved:
            return
        parameters = [self.parameters[name] for name in moved]
        averages, squares, steps = (
            [self.state[name][key] for name in moved] for key in ("exp_avg", "exp_avg_sq", "step")
        )
        torch._foreach_add_(steps, 1)
        self._update(
            parameters,
            [p.grad for p in parameters],  # type: ignore[misc]
            averages,
            squares,
            steps,
            lr=rate,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.weight_decay,
            eps=self.eps,
        )


def _count(parameter: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.float32, device=parameter.device)


def _adamw_fused(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    averages: Sequence[Tensor],
    squares: Sequence[Tensor],
    steps: Sequence[Tensor],
    **settings: float,
) -> None:
    """All of them in one kernel."""
    torch._fused_adamw_(  # type: ignore[call-overload]
        parameters, gradients, averages, squares, [], steps, amsgrad=False, maximize=False, **settings
    )


def _adamw_by_hand(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    averages: Sequence[Tensor],
    squares: Sequence[Tensor],
    steps: Sequence[Tensor],
    *,
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
    eps: float,
) -> None:
    """The same, line by line, for devices without the kernel."""
    for parameter, gradient, average, square, count in zip(
        parameters, gradients, averages, squares, steps, strict=True
    ):
        average.lerp_(gradient, 1 - beta1)
        square.lerp_(gradient.square(), 1 - beta2)
        # Both begin at zero, so after t steps they are too small by 1 - βᵗ.
        mean = average / (1 - beta1**count)
        root = (square / (1 - beta2**count)).sqrt()
        parameter.mul_(1 - lr * weight_decay).sub_(lr * mean / (root + eps))


def _has_fused_adamw(parameters: Named) -> bool:
    """Whether this device and this number format have the kernel: tried on one number."""
    example = next(iter(parameters.values()))
    numbers = [torch.zeros(1, dtype=example.dtype, device=example.device) for _ in range(4)]
    settings = {"lr": 0.0, "beta1": 0.9, "beta2": 0.9, "weight_decay": 0.0, "eps": 1.0}
    try:
        _adamw_fused(*([number] for number in numbers), [_count(example) + 1], **settings)  # type: ignore[arg-type, call-arg]
    except (RuntimeError, AttributeError):
        return False
    return True


class Muon:
    """Momentum made orthogonal, for the matrices inside a network (Jordan et al., 2024).

    A step changes a matrix by as much in every direction, not mostly in the few that gradients are large in.

    Matrices of one shape are stacked, so that five rounds of products serve all of them.
    """

    def __init__(self, parameters: Named, peak: float, weight_decay: float, config: TrainingConfig, dtype: torch.dtype):
        self.parameters, self.peak, self.weight_decay = parameters, peak, weight_decay
        self.momentum, self.rounds = config.muon_momentum, config.muon_rounds
        # The products need few digits; float16's range is too small for them.
        self.dtype = torch.bfloat16 if dtype is torch.bfloat16 else torch.float32
        self._names: dict[torch.Size, list[str]] = {}
        for name, parameter in parameters.items():
            self._names.setdefault(parameter.shape, []).append(name)
        self._momenta = {
            shape: torch.zeros(len(names), *shape, device=parameters[names[0]].device)
            for shape, names in self._names.items()
        }
        self.state = {  # views of the stacks
            name: {"momentum": momentum}
            for shape, names in self._names.items()
            for name, momentum in zip(names, self._momenta[shape], strict=True)
        }

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every matrix. `rate`: the learning rate now."""
        for shape, names in self._names.items():
            matrices = [self.parameters[name] for name in names]
            zero = torch.zeros_like(matrices[0])
            gradients = torch.stack([zero if p.grad is None else p.grad for p in matrices])
            momenta = self._momenta[shape].lerp_(gradients, 1 - self.momentum)
            ahead = gradients.lerp_(momenta, self.momentum)  # Nesterov: where the momentum will be a step later
            size = rate * max(1.0, shape[0] / shape[1]) ** 0.5  # more outputs than inputs: each gets as much
            updates = orthogonalised(ahead, self.rounds, self.dtype).mul_(size)
            for matrix, update in zip(matrices, updates, strict=True):
                matrix.mul_(1 - rate * self.weight_decay).sub_(update)


def orthogonalised(matrices: Tensor, rounds: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Each matrix with its singular values brought to about 1 (0.7 to 1.2), by products only.

    A round puts every singular value s through a s + b s³ + c s⁵, whose slope at zero is steep, so that small ones grow
    fast, and which ends anywhere near 1 rather than at it (Newton and Schulz's iteration with Jordan's coefficients).

    Args:
        matrices: (N, rows, columns).
        rounds: five bring singular values up from 0.01 of the matrix's length (the root of the sum of its squares).
        dtype: of the products.

    Returns:
        The same shape and number format as `matrices`.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(dtype)
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT  # the smaller square
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + 1e-7)  # no singular value is above 1 then
    for _ in range(rounds):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    orthogonal: Tensor = x if wide else x.mT
    return orthogonal.to(matrices.dtype)


class Optimizer:
    """All of a model's parameters, each moved by the rule that suits it.

    `adamw` moves everything by AdamW; `muon` moves the matrices of the linear layers in the model's `blocks` by Muon.
    Weight decay is for matrices, embeddings included: biases and gains (one axis) are left alone, as in nanoGPT.
    Embeddings may have a learning rate of their own.

    Args:
        model: any module; it stays where it is from here on.
        config: which rules, and their settings.
        dtype: the number format of matrix products in training.

    Attributes:
        parts: what moves what.
        param_groups: the parameters as `torch.amp.GradScaler` wants to find them.

    Raises:
        UserError: Muon, for a model without `blocks`.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, dtype: torch.dtype = torch.float32):
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        hidden = _linear_weights_of_blocks(model) if config.optimizer == "muon" else set()
        embeddings = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, nn.Embedding)}
        by_kind: dict[str, Named] = {"hidden": {}, "embedding": {}, "matrix": {}, "vector": {}}
        for name, parameter in parameters.items():
            kind = "hidden" if name in hidden else "embedding" if name in embeddings else "matrix"
            by_kind[kind if parameter.dim() >= 2 else "vector"][name] = parameter
        rate, decay = config.learning_rate, config.weight_decay
        self.parts: list[AdamW | Muon] = []
        for kind, named in by_kind.items():
            if named and kind == "hidden":
                self.parts.append(Muon(named, config.muon_learning_rate, decay, config, dtype))
            elif named:
                peak = config.embedding_learning_rate or rate if kind == "embedding" else rate
                self.parts.append(AdamW(named, peak, decay if kind != "vector" else 0.0, config))
        self._parameters = list(parameters.values())
        self.param_groups: list[dict[str, Any]] = [{"params": self._parameters}]

    def step(self, share: float) -> None:
        """Move every parameter that has a gradient, at `share` of its highest learning rate."""
        for part in self.parts:
            part.step(share * part.peak)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """What going on takes: tensors by "name of the parameter:name of the tensor"."""
        return {
            f"{name}:{key}": value
            for part in self.parts
            for name, entries in part.state.items()
            for key, value in entries.items()
        }

    def load_state(self, tensors: dict[str, Tensor], steps: int | None = None) -> None:
        """Go on from what `state` returned.

        Args:
            tensors: by name, on any device.
            steps: that were made, if known.

        Raises:
            ValueError: it is another optimizer's, another model's, or damaged; nothing is changed then.
        """
        own = self.state()
        check_tensors("the optimizer's", tensors, own)
        for name, tensor in tensors.items():
            key = name.rpartition(":")[2]
            if key == "exp_avg_sq" and not bool((tensor >= 0).all()):  # (inf may be: the square of a large gradient)
                raise ValueError(f"the optimizer's {name} has values that are NaN or below 0")
            if key != "exp_avg_sq" and not bool(tensor.isfinite().all()):
                raise ValueError(f"the optimizer's {name} has values that are NaN or inf")
            if key == "step" and steps is not None and not 0 <= tensor.item() <= steps:
                raise ValueError(f"the optimizer's {name} is {tensor.item():g} after {steps} steps")
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def _linear_weights_of_blocks(model: nn.Module) -> set[str]:
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.Module):
        raise UserError(
            f"training.optimizer muon: {type(model).__name__} has no `blocks`, whose matrices it would move: take adamw"
        )
    return {f"blocks.{name}.weight" for name, module in blocks.named_modules() if isinstance(module, nn.Linear)}


def learning_rate(step: int, total_steps: int, config: TrainingConfig) -> float:
    """The learning rate of step `step` (from 0) of `total_steps`: a pure function.

    It rises in a line over the warm-up, reaching its peak in the first step after it, then follows the schedule, which
    would reach `min_learning_rate` at step `total_steps`.
    """
    peak, lowest = config.learning_rate, config.min_learning_rate
    if step < config.warmup_steps:
        return peak * (step + 1) / (config.warmup_steps + 1)
    begin = config.warmup_steps
    if config.schedule == "wsd":
        begin = max(begin, round(total_steps * (1 - config.decay_fraction)))
    if config.schedule == "constant" or step < begin:
        return peak
    progress = min(1.0, (step - begin) / max(1, total_steps - begin))
    share = 0.5 * (1 + math.cos(math.pi * progress)) if config.schedule == "cosine" else 1 - progress
    return lowest + (peak - lowest) * share
