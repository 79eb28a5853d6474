"""What the machine can do at best: matrix products and reading memory."""

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from glassgpt.bench.machine import waiter
from glassgpt.bench.pairing import Side

SIZES = (1024, 2048, 4096, 8192, 16384)
ENOUGH_SECONDS = 0.05  # for one product or one reading: longer ones do not get faster
REPEATS = 7
MATMUL = "matrix product"
BYTES_READ = {"cpu": 2**28, "cuda": 2**31, "mps": 2**29}  # far more than any cache holds


@dataclass(frozen=True)
class Limits:
    """What a device reached.

    Attributes:
        matmul: operations a second in the product of two square matrices, by number format; a multiplication and an
            addition are two. Formats that the device does not have are left out.
        memory_read: bytes a second.
    """

    matmul: dict[str, float]
    memory_read: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {"matmul_flops_per_second": self.matmul, "memory_read_bytes_per_second": self.memory_read}


def measure_limits(device: torch.device) -> Limits:
    """A few seconds of measuring: each figure is the median of several, after a warm-up."""
    matmul = {}
    for dtype in (torch.float32, torch.bfloat16):
        try:
            _, speed = _best_product(device, dtype)
        except (RuntimeError, TypeError):  # how torch says that this device does not have the format
            continue
        matmul[str(dtype).removeprefix("torch.")] = speed
    return Limits(matmul, measure_memory_read(device))


def matmul_side(device: torch.device, dtype: torch.dtype) -> Side:
    """Matrix products of the size at which the device is fastest, as a side of a comparison."""
    size, _ = _best_product(device, dtype)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)

    def step() -> float:
        torch.mm(a, b, out=out)
        return 2.0 * size**3

    return Side(MATMUL, step, waiter(device), most_seconds=0.3)


def _best_product(device: torch.device, dtype: torch.dtype) -> tuple[int, float]:
    """The size of square matrices whose product is fastest, and operations a second there."""
    best = (0, 0.0)
    for size in SIZES:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        seconds = _seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)
        best = max(best, (size, 2 * size**3 / seconds), key=lambda found: found[1])
        if seconds > ENOUGH_SECONDS:
            break
    return best


def measure_memory_read(device: torch.device) -> float:
    """Bytes a second: the sum of a tensor that no cache holds."""
    size = BYTES_READ[device.type]
    numbers = torch.ones(size // 4, device=device)
    return size / _seconds(numbers.sum, device)


def _seconds(work: object, device: torch.device) -> float:
    """The median of several times."""
    assert callable(work)
    wait = waiter(device)
    times = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - began)
    return median(times[1:])  # the first one warms up
