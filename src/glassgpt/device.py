"""Where the numbers live, and the random ones among them."""

import random
import re
from typing import TYPE_CHECKING

from glassgpt.errors import UserError, reason, show

if TYPE_CHECKING:
    import torch


def check_device_name(name: str) -> str:
    """The name, if a device can have it; whether this machine has one is another question (`choose_device`).

    Raises:
        UserError: no device is called so.
    """
    if not isinstance(name, str) or not re.fullmatch(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]{0,2}))?", name):
        raise UserError(f"unknown device {show(name)}: auto, cpu, cuda, cuda:N or mps")
    return name


def choose_device(name: str = "auto") -> "torch.device":
    """The device of that name; for "auto" CUDA, else Apple's MPS, else the CPU.

    Raises:
        UserError: there is no such device, or not on this machine, or it does not start.
    """
    import torch

    check_device_name(name)
    try:
        if name == "auto":
            found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
            return _started(torch.device(found))
        device = torch.device(name)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise UserError("device cuda: torch finds no CUDA GPU here: use cpu or auto")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"device {name}: there are only {torch.cuda.device_count()} CUDA GPUs here (from cuda:0)")
        if device.type == "mps" and not torch.backends.mps.is_available():
            raise UserError("device mps: torch finds no Apple GPU here: use cpu or auto")
        return _started(device)
    except RuntimeError as error:  # of a driver, or of a GPU that others hold
        raise UserError(f"device {name}: it does not start ({reason(error)}): use --device cpu") from None


def _started(device: "torch.device") -> "torch.device":
    """The device, once it has held a number."""
    import torch

    if device.type != "cpu":
        torch.zeros(1, device=device)
    return device


def set_seed(seed: int, device: "torch.device") -> None:
    """Set every random state that a model may draw from: Python's, numpy's, and torch's on the CPU and on one device.

    (`torch.manual_seed` asks every kind of device there is, which takes as long as a small layer.)
    """
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
