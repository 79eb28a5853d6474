"""The decode step as a CUDA graph: launched as one, instead of a few hundred kernels one by one."""

from collections.abc import Callable

import torch
from torch import Tensor

from glassgpt.model.cache import KVCache, RowsCache
from glassgpt.model.gpt import GPT

WARM_UP = 3  # steps before capturing: libraries make their workspaces in them


class GraphSteps:
    """Steps for a number of rows, captured when first asked for.

    A graph always looks at the whole block, since its shapes cannot change; the mask leaves out what is not there.

    Args:
        model: whose step it is.
        store: the rows' memory, which graphs write to by its address.
    """

    def __init__(self, model: GPT, store: KVCache):
        self._model, self._store = model, store
        self._captured: dict[int, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {}

    def __call__(self, numbers: Tensor, last_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Ids, positions and slots, (3, B), and the last ids, to logits (B, V) and the last ids after that."""
        B = numbers.shape[1]
        if B not in self._captured:
            self._captured[B] = self._capture(numbers, last_ids)
        return self._captured[B](numbers, last_ids)

    def _capture(self, numbers: Tensor, last_ids: Tensor) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        B, store = numbers.shape[1], self._store
        # Its own inputs, at addresses that stay. While it is captured, nothing is kept: all write to the spare slot.
        own, own_last = numbers.clone(), last_ids.clone()
        own[2] = store.capacity - 1
        seen = torch.arange(store.capacity - 1, device=numbers.device)

        def step() -> tuple[Tensor, Tensor]:
            cache = RowsCache(
                [k[:B] for k in store.keys], [v[:B] for v in store.values], own[1], own[2], seen, own_last
            )
            return self._model(own[0, :, None], cache)[:, -1], cache.last_ids

        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits, newest = step()

        def replay(numbers: Tensor, last_ids: Tensor) -> tuple[Tensor, Tensor]:
            own.copy_(numbers)
            own_last.copy_(last_ids)
            graph.replay()
            return logits.clone(), newest.clone()

        return replay
