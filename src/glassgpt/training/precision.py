"""In which format numbers are multiplied, and whether the model is compiled."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from glassgpt.errors import UserError
from glassgpt.generation.compiler import use_compiler, why_not_compiled

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def choose_precision(device: torch.device, precision: Precision = "auto") -> torch.dtype:
    """The number format of matrix products in training; weights stay float32.

    "auto" takes what the device has units for: bfloat16 on CUDA cards that do, float16 on those before them (such as
    T4), bfloat16 on CPUs with instructions for it (AVX512-BF16, AMX), float32 elsewhere. On other CPUs bfloat16 is
    emulated, and slower than float32.
    """
    if precision == "auto" and device.type == "cpu":
        return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        with torch.cuda.device(device):  # it is asked of the current one
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if precision == "float16" and device.type == "cpu":
        raise UserError("precision float16: not on a CPU: use float32, or bfloat16 to try mixed precision")
    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def _cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16, as far as torch can tell."""
    asks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(ask is not None and ask() for ask in asks)


def mixed_precision(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """The context in which the forward pass runs: autocast, or nothing for float32."""
    return nullcontext() if dtype is torch.float32 else torch.autocast(device.type, dtype=dtype)


@contextmanager
def repeatable(active: bool) -> Iterator[None]:
    """The context in which a compiled model computes the same to the bit each time, on a CPU with several threads.

    Without it, the compiler turns the gradient of an embedding into additions by several threads at once, in whatever
    order they come (the difference is some 1e-6 after thirty steps). With it, they take turns.
    """
    if not active:
        yield
        return
    settings: Any = torch.utils.deterministic  # (typed as if it had no settings)
    before = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False  # a help in finding bugs, and slow
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        settings.fill_uninitialized_memory = before[1]


def compiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model's forward pass, compiled at its first call; if that fails, as it is, with one warning.

    What fails is nearly always that no C++ compiler is found; if the model itself is wrong, the plain call says so.
    """
    use_compiler()
    fast: Callable[[Tensor], Tensor] | None = torch.compile(model)
    called = False

    def forward(ids: Tensor) -> Tensor:
        nonlocal fast, called
        if fast is not None and called:
            return fast(ids)
        if fast is not None:
            try:
                with warnings.catch_warnings():
                    # Torch's advice on an NVIDIA card. Who asks for float32 gets it, TF32's ten bits would not be that.
                    warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
                    logits = fast(ids)
            except torch.OutOfMemoryError:
                raise  # that would be no better without it
            except Exception as error:
                fast = None
                warnings.warn(f"torch.compile failed, going on without it ({why_not_compiled(error)})", stacklevel=2)
            else:
                called = True
                return logits
        out: Tensor = model(ids)
        return out

    return forward
