"""What the machine is, and what it can do at best."""

import os
import platform
import shutil
import subprocess
from contextlib import nullcontext
from typing import Any
from unittest import mock

import torch

from glassgpt.bench import limits

from .part import Place


def measure(place: Place) -> None:
    """The card and its software, then its limits, each a row."""
    device = torch.device(place.device)
    place.add(what="software", **software())
    if device.type == "cuda":
        place.add(what="card", **card(device))
    smaller = {"SIZES": (64, 128), "BYTES_READ": {"cpu": 2**22, "cuda": 2**22}} if place.small else {}
    with mock.patch.multiple(limits, **smaller) if smaller else nullcontext():
        found = place.attempt(lambda: limits.measure_limits(device).to_dict(), what="limits")
        if found is not None:
            place.add(what="limits", **found)
        speed = place.attempt(lambda: copy_speed(device, limits.BYTES_READ[device.type]), what="copying")
        if speed is not None:
            place.add(what="copying", bytes_per_second=speed)


def software() -> dict[str, Any]:
    """Versions, and the processor beside the card."""
    triton = None
    try:
        import triton as found

        triton = found.__version__
    except ImportError:
        pass
    return {
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None,
        "triton": triton,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "compiler": shutil.which("gcc") or shutil.which("cc") or shutil.which("clang"),
    }


def card(device: torch.device) -> dict[str, Any]:
    """What torch and the driver say of the card."""
    seen = torch.cuda.get_device_properties(device)
    found: dict[str, Any] = {
        "name": seen.name,
        "capability": f"{seen.major}.{seen.minor}",
        "memory_bytes": seen.total_memory,
        "multiprocessors": seen.multi_processor_count,
        "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
    }
    fields = ("driver_version", "power.limit", "clocks.max.sm", "clocks.max.memory")
    try:
        asked = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        lines = asked.stdout.strip().splitlines()
        found |= dict(zip(fields, (value.strip() for value in lines[device.index or 0].split(",")), strict=True))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError) as error:
        found["nvidia-smi"] = f"not asked: {type(error).__name__}"
    return found


def copy_speed(device: torch.device, size: int) -> float:
    """Bytes a second in a copy within the device's memory, those read and those written both counted."""
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / limits._seconds(lambda: target.copy_(source), device)
