"""Training steps of glassgpt beside those of other projects: the same shape, the same batches, in turn."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import glassgpt
from glassgpt.bench.limits import MATMUL, matmul_side
from glassgpt.bench.machine import Machine, this_machine, waiter
from glassgpt.bench.pairing import Side, Spread, Timed, take_turns
from glassgpt.bench.work import Work
from glassgpt.data.batches import Batches, as_token_array
from glassgpt.device import choose_device, set_seed
from glassgpt.errors import UserError
from glassgpt.model import make_model
from glassgpt.training.events import Step
from glassgpt.training.precision import choose_precision, compiled, mixed_precision
from glassgpt.training.trainer import Trainer

OURS = "glassgpt"
THEIRS = "transformers"
THEIRS_FUSED = "transformers, fused AdamW"
THEIRS_PLAIN = "transformers, plain"  # in float32 and not compiled, as scripts run that ask for neither
TOKENS = 100_000  # at random: what they say does not change the speed


def ours(work: Work) -> Side:
    """Steps of the trainer that `glassgpt train` uses."""
    device = choose_device(work.training.device)
    set_seed(0, device)
    trainer = Trainer(make_model(work.model), _batches(work), work.training)
    events, seen = iter(trainer), 0

    def step() -> float:
        nonlocal seen
        event = next(events)
        assert isinstance(event, Step)  # nothing is evaluated or saved
        tokens, seen = event.tokens - seen, event.tokens
        return tokens

    return Side(OURS, step, waiter(device))


def theirs(work: Work, *, fused: bool) -> Side:
    """Steps of transformers' GPT-2 in the plain loop that most scripts have: its own loss, AdamW, clipping.

    Args:
        work: what is trained; the architecture is always GPT-2's.
        fused: with the kernel of AdamW for all parameters at once, which torch does not choose by itself on a CPU.

    Raises:
        UserError: transformers is not installed.
    """
    transformers = import_transformers()
    config = work.training
    device = choose_device(config.device)
    dtype = choose_precision(device, config.precision)
    set_seed(0, device)
    model: nn.Module = transformers.GPT2LMHeadModel(gpt2_config(work)).to(device)
    model.train()
    loss_of = compiled(_LossOf(model)) if config.compile else _LossOf(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, fused=fused or None)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    batches, number, parts = _batches(work), 0, config.gradient_accumulation

    def step() -> float:
        nonlocal number
        for _ in range(parts):
            inputs = batches(number)[0].to(device)
            number += 1
            with mixed_precision(device, dtype):
                loss = loss_of(inputs) / parts
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return work.tokens

    return Side(THEIRS, step, waiter(device))


def gpt2_config(work: Work) -> Any:
    """The shape as transformers' GPT2Config."""
    shape = work.model
    return import_transformers().GPT2Config(
        vocab_size=shape.vocabulary,
        n_positions=shape.block_size,
        n_embd=shape.n_embd,
        n_layer=shape.n_layer,
        n_head=shape.n_head,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), shape.dropout),
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )


class _LossOf(nn.Module):
    """A model of transformers' with the loss it computes itself."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        loss: Tensor = self.model(input_ids=ids, labels=ids).loss
        return loss


def import_transformers() -> Any:
    """The package, with its notes turned off.

    Raises:
        UserError: it is not installed.
    """
    try:
        transformers = importlib.import_module("transformers")
    except ImportError:
        raise UserError("transformers is not installed: pip install 'glassgpt[bench]'") from None
    transformers.logging.set_verbosity_error()
    return transformers


def make_side(name: str, work: Work) -> Side:
    """A side by its name."""
    if name == OURS:
        return ours(work)
    if name == THEIRS_PLAIN:
        work = replace(work, training=work.training.replace(precision="float32", compile=False))
    return replace(theirs(work, fused=name == THEIRS_FUSED), name=name)


def _batches(work: Work) -> Batches:
    V, T = work.model.vocabulary, work.model.block_size
    ids = np.random.default_rng(0).integers(V, size=max(TOKENS, 2 * T))
    return Batches(as_token_array(ids, V), T, work.training.batch_size)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Measured:
    """One side of a comparison.

    Attributes:
        speed: tokens a second.
        utilisation: the share of the device's own peak in matrix products that the training's matrix products come to
            (MFU, PaLM, Chowdhery et al., 2022).
        ratio: how many times as fast glassgpt is; None for glassgpt.
        first_seconds: until the first steps were done, compiling included.
        peak_memory: bytes, in a process of its own; None where it was not measured.
    """

    name: str
    speed: Spread
    utilisation: Spread
    ratio: Spread | None
    first_seconds: float
    peak_memory: int | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "name": self.name,
            "tokens_per_second": self.speed.to_dict(),
            "mfu": self.utilisation.to_dict(),
            "glassgpt_times_as_fast": self.ratio and self.ratio.to_dict(),
            "first_steps_seconds": self.first_seconds,
            "peak_memory_bytes": self.peak_memory,
        }


@dataclass(frozen=True)
class Comparison:
    """What a comparison came to.

    Attributes:
        work: what was trained.
        machine: and on what.
        precision: number format of matrix products.
        seconds: of a side's turn in a round.
        sides: glassgpt first.
        matmul: operations a second of matrix products, measured in the same rounds.
        versions: of the packages.
    """

    work: Work
    machine: Machine
    precision: str
    seconds: float
    sides: list[Measured]
    matmul: Spread
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON data, every round included."""
        work = self.work
        return {
            "shape": work.name,
            "model": work.model.model_dump(),
            "training": work.training.model_dump(),
            "changes": list(work.changes),
            "machine": self.machine.to_dict(),
            "versions": self.versions,
            "precision": self.precision,
            "seconds_a_turn": self.seconds,
            "parameters": work.parameters,
            "tokens_per_step": work.tokens,
            "flops_per_token": work.flops_per_token,
            "matmul_flops_per_second": self.matmul.to_dict(),
            "sides": [side.to_dict() for side in self.sides],
        }


def compare_training(
    work: Work,
    *,
    against_transformers: bool,
    rounds: int,
    seconds: float | None,
    peaks: dict[str, int | None],
    tell: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Time training steps of all sides in turn, and matrix products with them.

    Args:
        work: what is trained.
        against_transformers: whether transformers is a side: with AdamW as it comes, with the fused one, and plain if
            the others are not.
        rounds: how many.
        seconds: of each side's turn in a round; left out: as `take_turns` chooses.
        peaks: memory that sides take, by their names, if it was measured.
        tell: is told what is under way.
    """
    device = choose_device(work.training.device)
    dtype = choose_precision(device, work.training.precision)
    names = side_names(work, against_transformers=against_transformers)
    tell("making the sides")
    sides = [*(make_side(name, work) for name in names), matmul_side(device, dtype)]
    seconds, timed = take_turns(sides, rounds=rounds, seconds=seconds, tell=tell)
    matmul = timed[MATMUL].rate

    def measured(name: str, side: Timed) -> Measured:
        flops = Spread(tuple(speed * work.flops_per_token for speed in side.rate.rounds))
        return Measured(
            name=name,
            speed=side.rate,
            utilisation=flops / matmul,
            ratio=None if name == OURS else timed[OURS].rate / side.rate,
            first_seconds=side.first_seconds,
            peak_memory=peaks.get(name),
        )

    versions = {"glassgpt": glassgpt.__version__, "torch": str(torch.__version__)}
    if against_transformers:
        versions[THEIRS] = import_transformers().__version__
    return Comparison(
        work=work,
        machine=this_machine(device),
        precision=str(dtype).removeprefix("torch."),
        seconds=seconds,
        sides=[measured(name, timed[name]) for name in names],
        matmul=matmul,
        versions=versions,
    )


def side_names(work: Work, *, against_transformers: bool) -> list[str]:
    """The sides of a comparison. Where they are in mixed precision or compiled, transformers is there plain, too."""
    if not against_transformers:
        return [OURS]
    dtype = choose_precision(choose_device(work.training.device), work.training.precision)
    is_plain = dtype is torch.float32 and not work.training.compile
    return [OURS, THEIRS, THEIRS_FUSED, *([] if is_plain else [THEIRS_PLAIN])]
