"""What callers give to engines and searches, made sure to be what it should be before anything is computed."""

from collections.abc import Iterable
from operator import index
from typing import Any

import torch
from torch import Tensor

from glassgpt.errors import UserError, show

MOST_SEED = 2**64


def whole_number(value: Any, name: str, least: int, most: int) -> int:
    """A whole number of any kind, such as numpy's, as Python's.

    Raises:
        UserError: it is none, or outside its bounds; the message begins with `name`.
    """
    try:
        number = index(value)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"{name}: a whole number is needed, not {show(value)}") from None
    if not least <= number <= most:
        raise UserError(f"{name} {show(number)}: from {least:,} to {most:,}")
    return number


def check_seed(seed: Any) -> int:
    """A seed as a Python number.

    Raises:
        UserError: it is none.
    """
    return whole_number(seed, "seed", 0, MOST_SEED)


def check_ids(ids: Any, name: str, most: int, vocabulary: int | None = None) -> list[int]:
    """Ids of any kind of sequence, such as a tensor's, as Python's.

    Args:
        ids: some numbers.
        name: what they are, for messages.
        most: how many there may be; there must be one.
        vocabulary: they are below it; None: not known, and someone else's to check.

    Raises:
        UserError: they are something else.
    """
    if not isinstance(ids, Iterable):
        raise UserError(f"{name}: ids are needed, not {show(ids)}")
    if isinstance(ids, Tensor):
        ids = ids.tolist()
    least, last = (0, vocabulary - 1) if vocabulary else (-(2**63), 2**63 - 1)
    known = [whole_number(one, f"an id of the {name}", least, last) for one in ids]
    if not 1 <= len(known) <= most:
        raise UserError(f"a {name} of {len(known):,} tokens: 1 to {most:,} can be read")
    return known


def check_prompt_tensor(prompt: Tensor, model: Any, block_size: int) -> None:
    """Make sure that a search can begin with a prompt, (T,) int64.

    Raises:
        UserError: it cannot.
    """
    if not isinstance(prompt, Tensor) or prompt.dim() != 1 or prompt.dtype is not torch.int64:
        raise UserError(f"prompt: a tensor (T,) of int64 is needed, not {show(prompt)}")
    config = getattr(model, "config", None)
    check_ids(prompt, "prompt", whole_number(block_size, "block_size", 1, 2**31), getattr(config, "vocab_size", None))
