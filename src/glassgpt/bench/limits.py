"""What the machine can do at best: matrix products and reading memory."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from glassgpt.bench.machine import waiter
from glassgpt.bench.pairing import Side

SIZES = (1024, 2048, 4096, 8192, 16384)
ENOUGH_SECONDS = 0.05  # for one product or one reading: longer ones do not get faster
REPEATS = 7
TF32_SINCE = (8, 0)  # compute capability
MATMUL = "matrix product"
BYTES_READ = {"cpu": 2**28, "cuda": 2**31, "mps": 2**29}  # far more than any cache holds


@dataclass(frozen=True)
class Limits:
    """What a device reached.

    Attributes:
        matmul: operations a second in the product of two square matrices, by number format; a multiplication and an
            addition are two. Formats that the device does not have are left out. `tf32`: float32 that is rounded to 10
            bits, as NVIDIA's matrix units take it; glassgpt does not use it.
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
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= TF32_SINCE:
        with _tf32():
            matmul["tf32"] = _best_product(device, torch.float32)[1]
    return Limits(matmul, measure_memory_read(device))


@contextmanager
def _tf32() -> Iterator[None]:
    """The context in which products of float32 matrices run on matrix units."""
    before = torch.get_float32_matmul_precision()
    with warnings.catch_warnings():  # torch has a newer setting beside this one, and fails where both are used
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision("high")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def matmul_side(device: torch.device, dtype: torch.dtype) -> Side:
    """Matrix products of the size at which the device is fastest, as a side of a comparison."""
    size, _ = _best_product(device, dtype)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out, wait = torch.empty_like(a), waiter(device)

    def step() -> float:
        torch.mm(a, b, out=out)
        wait()  # or a GPU would be given a thousand of them before a turn's seconds are over
        return 2.0 * size**3

    return Side(MATMUL, step, wait, most_seconds=0.3)


def _best_product(device: torch.device, dtype: torch.dtype) -> tuple[int, float]:
    """The size of square matrices whose product is fastest, and operations a second there."""
    best = (0, 0.0)
    for size in SIZES:
        try:
            a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
            out = torch.empty_like(a)
            seconds = _seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)
        except torch.OutOfMemoryError:
            if not best[0]:
                raise
            break  # a small card: the largest that it has room for
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
