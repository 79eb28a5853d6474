"""The decode step as a CUDA graph: launched as one, instead of a few hundred kernels one by one."""

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from glassgpt.model.cache import KVCache, RowsCache
from glassgpt.model.gpt import GPT

WARM_UP = 3  # steps before capturing: libraries make their workspaces in them
FEW = 8  # rows: up to here a graph for 1, 2, 4 and 8, beyond for each multiple of it
Step = Callable[[], tuple[Tensor, Tensor]]

_capturing = threading.Lock()  # a capture begins by waiting for the device, which another one's must not be in


class GraphSteps:
    """Steps for a number of rows, captured when first asked for.

    A graph always looks at the whole block, since its shapes cannot change; the mask leaves out what is not there.
    Since a capture takes longer than many steps, there is one for some numbers of rows only: rows that a step has too
    many write to the spare slot.

    Args:
        model: whose step it is.
        store: the rows' memory, which graphs write to by its address.
    """

    def __init__(self, model: GPT, store: KVCache):
        self._model, self._store = model, store
        self._device = store.keys[0].device
        self._spare = store.capacity - 1
        self._seen = torch.arange(self._spare, device=self._device)
        self._capture = Capture(self._device)
        self._captured: dict[int, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {}

    def __call__(self, numbers: Tensor, last_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Ids, positions and slots, (3, B), and the last ids, to logits (B, V) and the last ids after that."""
        rows = min(rows_of_graph(numbers.shape[1]), len(self._store.keys[0]))
        if rows not in self._captured:
            self._captured[rows] = self._make(rows)
        return self._captured[rows](numbers, last_ids)

    def _make(self, rows: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        store, seen, spare = self._store, self._seen, self._spare
        # Its own inputs, at addresses that stay. While it is captured, nothing is kept: all write to the spare slot.
        own = torch.zeros(3, rows, dtype=torch.int64, device=self._device)
        own[2] = spare
        own_last = store.last_ids[:rows].clone()
        keys, values = [k[:rows] for k in store.keys], [v[:rows] for v in store.values]

        def step() -> tuple[Tensor, Tensor]:
            cache = RowsCache(keys, values, own[1], own[2], seen, own_last)
            return self._model(own[0, :, None], cache)[:, -1], cache.last_ids

        (logits, newest), run = self._capture(step)

        def replay(numbers: Tensor, last_ids: Tensor) -> tuple[Tensor, Tensor]:
            B = numbers.shape[1]
            own[:, :B] = numbers
            own[2, B:] = spare  # what an earlier step had there would be written once more
            own_last[:B] = last_ids
            run()
            return logits[:B].clone(), newest[:B].clone()

        return replay


def rows_of_graph(rows: int) -> int:
    """How many rows the graph has that serves so many."""
    return 1 << (rows - 1).bit_length() if rows <= FEW else -(-rows // FEW) * FEW


class Capture:
    """Makes graphs of steps, all on one stream and in one pool of memory.

    They may share it, as each one's results are copied before another one runs. (A stream for each would leave a
    workspace of cuBLAS behind for each.)

    Args:
        device: whose work is captured, whichever one is current.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Step) -> tuple[tuple[Tensor, Tensor], Callable[[], None]]:
        """Capture a step: its results, at addresses that stay, and what works them out again from its inputs."""
        stream, graph = self._stream, torch.cuda.CUDAGraph()
        with _capturing, torch.cuda.device(self._device):
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    step()
            torch.cuda.current_stream().wait_stream(stream)
            # Forbidden while it lasts is what this thread must not do: others go on decoding, or train.
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                results = step()
        return results, graph.replay
