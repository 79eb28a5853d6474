"""Checks that a device computes what the CPU does: losses, gradients, training in every precision, resuming, runs.

Each is a plain function of a device that returns what it measured, and fails by an AssertionError that says by how
much. `tests/test_cuda.py` runs them under pytest, `benchmarks/gpu.py` without it. What they compare with is the CPU,
where it can be in float64. All are small: a few seconds on a card, and on a CPU that stands in for one.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from glassgpt.data.batches import Windows
from glassgpt.model import ModelConfig, make_model
from glassgpt.training.checkpoints import load_newest_checkpoint, save_checkpoint
from glassgpt.training.evaluation import evaluate
from glassgpt.training.events import Step
from glassgpt.training.loss import summed_loss
from glassgpt.training.memory import checkpoint_activations
from glassgpt.training.trainer import Trainer

from .training import IDS, SMALL, distance, flat, losses, make_trainer, relative

Figures = dict[str, Any]
Check = Callable[[torch.device], Figures]

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"activation": "gelu_tanh"},
    "modern": {
        "position": "rotary",
        "norm": "rmsnorm",
        "activation": "swiglu",
        "qk_norm": True,
        "bias": False,
        "n_kv_head": 2,
    },
    "ngrams": {"ngrams": 3, "tie_weights": False, "position": "sinusoidal", "logit_softcap": 15.0},
    "by hand": {"attention": "manual", "norm_position": "post", "layer_scale": 0.1, "activation": "relu2"},
}
FLOAT32 = 5e-5  # of the length of logits or gradients: TF32 is at 3e-4, float32 mostly below 1e-5
BFLOAT16 = 3e-2


def forward_and_gradients(device: torch.device) -> Figures:
    """Logits, loss and gradient in float32 beside float64 on the CPU, and the logits under autocast in bfloat16."""
    worst = {"logits": 0.0, "loss": 0.0, "gradient": 0.0, "bfloat16 logits": 0.0}
    for name, changes in SHAPES.items():
        torch.manual_seed(0)
        exact = make_model(SMALL.replace(**changes)).double()
        ours = make_model(SMALL.replace(**changes))
        ours.load_state_dict(exact.state_dict())
        ours.to(device)
        ids = torch.randint(SMALL.vocabulary, (4, SMALL.block_size), generator=torch.Generator().manual_seed(1))
        wanted, got = exact(ids), ours(ids.to(device))
        with torch.autocast(device.type, dtype=torch.bfloat16):
            rounded = ours(ids.to(device))
        exact_loss, loss = _cross_entropy(wanted, ids), summed_loss(got, ids.to(device))
        exact_loss.backward()
        loss.backward()  # type: ignore[no-untyped-call]
        found = {
            "logits": relative(got, wanted),
            "loss": abs(loss.item() / exact_loss.item() - 1),
            "gradient": relative(_gradient(ours), _gradient(exact)),
            "bfloat16 logits": relative(rounded, wanted),
        }
        for key, value in found.items():
            most = BFLOAT16 if key.startswith("bfloat16") else FLOAT32
            assert value < most, f"{name}: {key} off by {value:.2g}, more than {most:g}"
            worst[key] = max(worst[key], value)
    return worst


def _cross_entropy(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="sum")


def _gradient(model: nn.Module) -> torch.Tensor:
    return flat(p.grad for p in model.parameters() if p.grad is not None)


def loss_of_a_large_vocabulary(device: torch.device) -> Figures:
    """The loss that goes through its logits some rows at a time: so many that it does, in float32 and bfloat16."""
    N, V = (2048, 40_000) if device.type == "cuda" else (64, 40_000)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(N, V, generator=generator).to(device)
    targets = torch.randint(V, (N,), generator=generator).to(device)
    found = {}
    for dtype, most in ((torch.float32, 1e-5), (torch.bfloat16, 5e-3)):
        mine = logits.to(dtype).detach().requires_grad_()
        theirs = mine.detach().clone().requires_grad_()
        loss = summed_loss(mine[None], targets[None])
        wanted = nn.functional.cross_entropy(theirs.float(), targets, reduction="sum")
        (loss / N).backward()  # type: ignore[no-untyped-call]
        (wanted / N).backward()  # type: ignore[no-untyped-call]
        assert mine.grad is not None and theirs.grad is not None
        off = max(abs(loss.item() / wanted.item() - 1), relative(mine.grad, theirs.grad))
        name = str(dtype).removeprefix("torch.")
        assert off < most, f"{name}: off by {off:.2g}, more than {most:g}"
        found[name] = off
    return found


def training_beside_the_cpu(device: torch.device) -> Figures:
    """The losses of twenty steps in float32, by both optimizers; activations checkpointed, gradients watched."""
    found = {}
    for optimizer in ("adamw", "muon"):
        options: dict[str, Any] = {"steps": 20, "optimizer": optimizer, "changes": SHAPES["modern"]}
        wanted = losses(make_trainer(torch.device("cpu"), **options))
        got = losses(make_trainer(device, watch_gradients=10, activation_checkpointing=True, **options))
        found[optimizer] = max(abs(a - b) for a, b in zip(wanted, got, strict=True))
        assert found[optimizer] < 1e-3, f"{optimizer}: a loss differs by {found[optimizer]:.2g}"
        assert got[-1] < got[0] - 0.5, f"{optimizer}: learned nothing: from {got[0]:.2f} to {got[-1]:.2f}"
    return found


def gradients_watched(device: torch.device) -> Figures:
    """What `watch_gradients` sees in a step, beside the CPU's."""
    flows = []
    for where in (torch.device("cpu"), device):
        events = [event for event in make_trainer(where, steps=2, watch_gradients=2) if isinstance(event, Step)]
        flow = events[-1].flow
        assert flow is not None and flow.blocks
        flows.append(flow.as_json())
    worst = 0.0
    for kind, named in flows[0].items():
        for name, figures in named.items():
            for key, value in figures.items():
                other = flows[1][kind][name][key]
                assert value is not None and other is not None, f"{name}: {key} is {value} and {other}"
                worst = max(worst, abs(value - other) / (abs(value) + 1e-3))
    assert worst < 1e-2, f"a figure differs by {worst:.2g}"
    return {"largest difference": worst}


def evaluation(device: torch.device) -> Figures:
    """The loss of a text, over all of its windows, beside the CPU's."""
    torch.manual_seed(0)
    model = make_model(SMALL)
    windows = Windows(IDS[:3_000], SMALL.block_size)
    wanted = evaluate(model, windows, torch.device("cpu")).loss
    got = evaluate(model.to(device), windows, device).loss
    assert abs(got - wanted) < 1e-5, f"{got} and {wanted}"
    return {"difference": abs(got - wanted)}


def activation_checkpointing(device: torch.device) -> Figures:
    """The same gradients, dropout included; and on a card, less memory."""
    shape = SMALL.replace(n_layer=6, dropout=0.2, block_size=128)
    ids = torch.randint(SMALL.vocabulary, (8, 128), generator=torch.Generator().manual_seed(1)).to(device)
    gradients, peaks = [], []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = make_model(shape).to(device).train()
        if checkpointed:
            checkpoint_activations(model)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        torch.manual_seed(1)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = model(ids)
        summed_loss(logits, ids).backward()  # type: ignore[no-untyped-call]
        peaks.append(torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else 0)
        gradients.append(_gradient(model))
        del model, logits
    off = relative(gradients[1], gradients[0])
    assert off < 1e-5, f"gradients differ by {off:.2g}"
    if device.type != "cuda":
        return {"gradient": off}
    assert peaks[1] < 0.7 * peaks[0], f"{peaks[1]} bytes instead of {peaks[0]}"
    return {"gradient": off, "memory": peaks[1] / peaks[0]}


def mixed_precision(device: torch.device) -> Figures:
    """Forty steps in bfloat16 and in float16 learn what float32 learns; float16 by the loss scale."""
    options: dict[str, Any] = {"steps": 40, "changes": SHAPES["modern"], "optimizer": "muon"}
    last = sum(losses(make_trainer(device, **options))[-5:]) / 5
    found = {"float32": last}
    for precision in ("bfloat16", "float16"):
        trainer = make_trainer(device, precision=precision, **options)
        got = losses(trainer)
        found[precision] = sum(got[-5:]) / 5
        end = found[precision]
        assert abs(end - last) < 0.1 + 0.1 * last, f"{precision}: ends at {end:.3f}, float32 at {last:.3f}"
        assert trainer.progress.skipped <= 3, f"{precision}: {trainer.progress.skipped} of 40 steps were skipped"
    return found


def overflow(device: torch.device) -> Figures:
    """A loss scale of float16 that is far too high: steps are skipped, change nothing, and training goes on."""
    trainer = make_trainer(device, steps=30, precision="float16")
    trainer._scaler = torch.amp.GradScaler(device.type, init_scale=2.0**26)
    before = flat(trainer.model.parameters()).clone()
    first = next(iter(trainer))
    assert isinstance(first, Step) and first.skipped == 1, "a scale of 2^26 did not overflow"
    assert torch.equal(before, flat(trainer.model.parameters())), "a skipped step changed weights"
    got = losses(trainer)
    progress, scale = trainer.progress, trainer._scaler.get_scale()
    assert 1 < progress.skipped < 20 and not progress.skipped_in_a_row, f"{progress.skipped} steps were skipped"
    assert scale < 2.0**26 and got[-1] < got[0] - 0.5, f"scale {scale}, from {got[0]:.2f} to {got[-1]:.2f}"
    return {"skipped": progress.skipped, "scale": scale}


def resuming(device: torch.device) -> Figures:
    """Ten steps, a checkpoint on the disk, and ten more in another trainer, beside twenty in one go.

    What is allowed is what two runs in one go differ by: nothing, where kernels add in one order.
    """
    found: Figures = {}
    for precision in ("float32", "bfloat16", "float16"):
        options: dict[str, Any] = {"steps": 20, "precision": precision, "changes": {**SHAPES["modern"], "dropout": 0.1}}
        whole, again = (make_trainer(device, **options) for _ in range(2))
        start = flat(whole.model.parameters()).clone()
        losses(whole), losses(again)
        with TemporaryDirectory() as folder:
            first = make_trainer(device, **options)
            for event in first:
                if isinstance(event, Step) and event.step == 10:
                    save_checkpoint(first, Path(folder), keep=1)
                    break
            resumed = make_trainer(device, seed=7, **options)
            load_newest_checkpoint(resumed, Path(folder), lambda line: None)
        resumed = _with_seed_of(resumed, whole)
        losses(resumed)
        way = distance(whole, start)
        usual, off = distance(whole, again) / way, distance(whole, resumed) / way
        assert off <= 4 * usual + 1e-3, f"{precision}: off by {off:.2g} of the way, two runs by {usual:.2g}"
        found[precision] = "exact" if off == 0 else f"{off:.1e} (two runs: {usual:.1e})"
    return found


def _with_seed_of(trainer: Trainer, other: Trainer) -> Trainer:
    """Resuming is with the run's own recipe; the other seed was for weights that must come from the checkpoint."""
    trainer.config, trainer.batches = other.config, other.batches
    return trainer


CHECKS: dict[str, Check] = {
    "forward pass, loss and gradients beside float64": forward_and_gradients,
    "loss of a large vocabulary": loss_of_a_large_vocabulary,
    "twenty steps beside the CPU's": training_beside_the_cpu,
    "watched gradients beside the CPU's": gradients_watched,
    "evaluation beside the CPU's": evaluation,
    "activation checkpointing": activation_checkpointing,
    "bfloat16 and float16 learn": mixed_precision,
    "float16 overflows and goes on": overflow,
    "resuming": resuming,
}

__all__ = ["CHECKS", "SHAPES", "Check", "Figures", "ModelConfig"]
