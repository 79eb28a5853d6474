"""Checks of training with torch.compile on a device: it compiles, and trains what the plain model trains."""

import warnings
from collections.abc import Callable
from typing import Any

import torch

from .checks import SHAPES
from .training import losses, make_trainer


def compiled_float32(device: torch.device) -> dict[str, Any]:
    """Six steps of GPT-2's kind, compiled and not, in float32."""
    changes = {**SHAPES["gpt2"], "n_layer": _layers(device)}
    plain = losses(make_trainer(device, steps=6, changes=changes))
    fast = _compiled_losses(device, steps=6, changes=changes)
    off = max(abs(a - b) for a, b in zip(plain, fast, strict=True))
    assert off < 1e-3, f"a loss differs by {off:.2g}"
    return {"largest difference": off}


def compiled_bfloat16(device: torch.device) -> dict[str, Any]:
    """Everything at once in bfloat16: dropout, rotary positions, Muon, activations checkpointed, batches added up."""
    changes = {**SHAPES["modern"], "dropout": 0.1, "n_layer": _layers(device)}
    options: dict[str, Any] = {"steps": 30, "changes": changes, "optimizer": "muon"}
    options |= {"precision": "bfloat16", "activation_checkpointing": True, "gradient_accumulation": 2}
    plain, fast = losses(make_trainer(device, **options)), _compiled_losses(device, **options)
    ends = [sum(found[-5:]) / 5 for found in (plain, fast)]
    assert abs(ends[0] - ends[1]) < 0.1 + 0.1 * ends[0], f"ends at {ends[1]:.3f}, plain at {ends[0]:.3f}"
    if device.type != "cuda":  # (where a CPU stands in, compiling takes longest)
        return {"plain": ends[0], "compiled": ends[1]}
    again = _compiled_losses(device, **options)
    off = max(abs(a - b) for a, b in zip(fast, again, strict=True))
    assert off < 0.05, f"the same training twice differs by {off:.2g}"
    return {"plain": ends[0], "compiled": ends[1], "twice": off}


def _layers(device: torch.device) -> int:
    """Fewer on a CPU, whose compiler takes longest."""
    return 2 if device.type == "cuda" else 1


def _compiled_losses(device: torch.device, **options: Any) -> list[float]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = losses(make_trainer(device, compile=True, **options))
    failed = [str(warning.message) for warning in told if "torch.compile failed" in str(warning.message)]
    assert not failed, failed[0]
    return found


CHECKS: dict[str, Callable[[torch.device], dict[str, Any]]] = {
    "compiled training in float32": compiled_float32,
    "compiled training in bfloat16, with everything": compiled_bfloat16,
}
