"""A stand-in for CUDA graphs on a CPU: what a step does is recorded, kernel by kernel, and done again at each replay.

As on a card, a replay reads and writes the memory that it was captured with, so that a step that keeps a number of
Python's, or a tensor that is another one in the next step, gives wrong results here too. What a capture forbids, above
all to read a result, is refused.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from glassgpt.generation import graphs
from glassgpt.generation.decoder import Decoder

FORBIDDEN = ("_local_scalar_dense", "item", "nonzero", "masked_select", "lift_fresh", "lift", "is_nonzero", "unique2")


class NotAllowedInCaptureError(RuntimeError):
    """A step waits for the device, or brings something from Python."""


class _Recorder(TorchDispatchMode):
    """Notes each operation with its arguments and results."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in FORBIDDEN:
            raise NotAllowedInCaptureError(f"operation not permitted when stream is capturing: {func}")
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, _tensors(out)))
        return out

    def replay(self) -> None:
        """Do all of it again, in the same memory."""
        for func, args, kwargs, before in self.calls:
            for old, new in zip(before, _tensors(func(*args, **kwargs)), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)  # (views, and what is written in place, are there already)


def _tensors(results: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(results) if isinstance(leaf, Tensor)]


class RecordedCapture:
    """As `glassgpt.generation.graphs.Capture`, for a CPU.

    Attributes:
        captures: how many there were, of all of them.
    """

    captures = 0

    def __init__(self, device: torch.device):
        assert device.type == "cpu"

    def __call__(self, step: graphs.Step) -> tuple[tuple[Tensor, Tensor], Callable[[], None]]:
        """Record a step."""
        for _ in range(graphs.WARM_UP):
            step()
        RecordedCapture.captures += 1
        with _Recorder() as recorder:
            results = step()
        for result in results:
            result.zero_()  # on a card nothing is worked out while it is captured
        return results, recorder.replay


@contextmanager
def graphs_on_cpu() -> Iterator[None]:
    """The context in which the mode "graphs" is possible on a CPU, by recording."""
    choose = Decoder._choose

    def chosen(decoder: Decoder, model: Any, mode: Any, tokens: int, tell: Callable[[str], None]) -> Any:
        return ("graphs", None) if mode == "graphs" else choose(decoder, model, mode, tokens, tell)

    with mock.patch.object(graphs, "Capture", RecordedCapture), mock.patch.object(Decoder, "_choose", chosen):
        yield


@contextmanager
def stand_in(device: torch.device) -> Iterator[None]:
    """`graphs_on_cpu` where the device is one, else nothing."""
    if device.type == "cuda":
        yield
    else:
        with graphs_on_cpu():
            yield
