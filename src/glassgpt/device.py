"""Where the numbers live."""

import torch

from glassgpt.errors import UserError


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; for "auto" CUDA, else Apple's MPS, else the CPU.

    Raises:
        UserError: this machine has no such device.
    """
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(found)
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: torch finds no CUDA GPU here: use cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name}: there are only {torch.cuda.device_count()} CUDA GPUs here (from cuda:0)")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device mps: torch finds no Apple GPU here: use cpu or auto")
    return device
