"""Where each head looks: maps, and what is typical of a head in numbers."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glassgpt.errors import UserError
from glassgpt.inspection.capture import Ids, as_gpt, capture


@dataclass(frozen=True)
class HeadStatistics:
    """What one head does with one text: means over its queries but the first, which can only look at itself.

    Attributes:
        layer, head: which head.
        entropy: of a query's weights, in nats: 0 looks at one token, ln n at n tokens alike.
        distance: how many tokens back it looks, weighted.
        previous: the weight on the token before.
        first: the weight on the first token, where heads look that have found nothing ("attention sink").
        induction: the weight on the token behind the latest earlier occurrence of the query's own token, over queries
            that have one, if it is not the query itself (Olsson et al., 2022); None if there are none.
    """

    layer: int
    head: int
    entropy: float
    distance: float
    previous: float
    first: float
    induction: float | None


def attention_maps(model: nn.Module, ids: Ids) -> Tensor:
    """The weights of all heads, (L, H, T, T): how much of each key (last axis) each query takes."""
    return torch.cat(list(capture(model, ids, "blocks.*.weights").values()))


def head_statistics(weights: Tensor, ids: Ids) -> list[HeadStatistics]:
    """The figures of every head, layer by layer.

    Args:
        weights: (L, H, T, T), from `attention_maps`.
        ids: the text, (T,). If it is one token long, the figures are those of this one query.
    """
    repeats = _repeats(ids)
    return [head for layer, maps in enumerate(weights) for head in _of_layer(layer, maps, *repeats)]


def _of_layer(layer: int, maps: Tensor, queries: list[int], keys: list[int]) -> list[HeadStatistics]:
    """One layer's heads, of maps (H, T, T); queries and keys are `_repeats` of the text."""
    H, T, _ = maps.shape
    begin = min(1, T - 1)
    rows = maps[:, begin:].double()  # (H, T - 1, T)
    position = torch.arange(T, dtype=torch.float64)
    back = position[begin:, None] - position  # (T - 1, T)
    figures = (
        torch.special.entr(rows).sum(dim=-1).mean(dim=-1).tolist(),  # H numbers each
        (rows * back).sum(dim=-1).mean(dim=-1).tolist(),
        (rows * (back == 1)).sum(dim=-1).mean(dim=-1).tolist(),
        rows[..., 0].mean(dim=-1).tolist(),
        maps[:, queries, keys].double().mean(dim=-1).tolist() if queries else [None] * H,
    )
    return [HeadStatistics(layer, head, *of_head) for head, of_head in enumerate(zip(*figures, strict=True))]


def induction_scores(model: nn.Module, *, length: int = 24, seed: int = 0) -> Tensor:
    """How much each head is an induction head, (L, H): on random tokens that are repeated once, it looks at the one
    that followed the last time (Olsson et al., 2022). 1: at nothing else; an untrained head: about 1/T.

    Args:
        model: a GPT.
        length: of the random piece; at most half the block. Its tokens differ from each other if there are enough.
        seed: for the random piece.

    Raises:
        UserError: the block is too short for a repetition.
    """
    config = as_gpt(model).config
    if length < 2:
        raise UserError(f"length: a repetition needs 2 tokens or more, not {length}")
    if config.block_size < 4:
        raise UserError(f"a repetition needs 2 tokens twice, and the block size is {config.block_size}")
    length = min(length, config.block_size // 2)
    generator = torch.Generator().manual_seed(seed)
    if config.vocabulary >= length:
        piece = torch.randperm(config.vocabulary, generator=generator)[:length]
    else:
        piece = torch.randint(config.vocabulary, (length,), generator=generator)
    weights = attention_maps(model, piece.repeat(2))  # (L, H, 2·length, 2·length)
    # Query `length + t` and key `t + 1`. (The diagonal's first place is the query before: nothing was repeated yet.)
    return weights.diagonal(1 - length, dim1=-2, dim2=-1)[..., 1:].mean(dim=-1)


def _repeats(ids: Ids) -> tuple[list[int], list[int]]:
    """Queries whose token came before, and the position behind its latest earlier occurrence."""
    pairs = list(_followers(ids))
    return [query for query, _ in pairs], [key for _, key in pairs]


def _followers(ids: Ids) -> Iterator[tuple[int, int]]:
    latest: dict[int, int] = {}
    for position, token in enumerate(map(int, ids)):
        if token in latest and latest[token] + 1 < position:  # behind its neighbour, that would be the query itself
            yield position, latest[token] + 1
        latest[token] = position
