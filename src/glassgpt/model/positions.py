"""Where a token stands: learned vectors, fixed waves, or rotations of queries and keys."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


def frequencies(width: int, base: float) -> Tensor:
    """width/2 frequencies in radians per position, from 1 down to nearly 1/base, evenly spaced on a log scale."""
    return base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)


def sinusoidal_table(block_size: int, width: int, base: float = 10_000.0) -> Tensor:
    """Fixed position vectors (block_size, width): sines at even places, cosines at odd ones (Vaswani et al., 2017)."""
    angles = torch.arange(block_size, dtype=torch.float64)[:, None] * frequencies(width, base)  # (T, C/2)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).float()  # (T, C)


def rotary_table(block_size: int, head_width: int, base: float, pairing: Literal["half", "interleaved"]) -> Tensor:
    """Cosines and sines of every position's rotations, (2, block_size, D), laid out for the pairing."""
    angles = torch.arange(block_size, dtype=torch.float64)[:, None] * frequencies(head_width, base)  # (T, D/2)
    angles = torch.cat((angles, angles), dim=-1) if pairing == "half" else angles.repeat_interleave(2, dim=-1)
    return torch.stack((angles.cos(), angles.sin())).float()  # (2, T, D)


@dataclass(frozen=True)
class Rotation:
    """Turns each pair of a head's components by an angle that grows with the position (RoFormer, Su et al., 2021).

    The product of a rotated query and a rotated key then depends on how far they stand apart, not on where.

    Args:
        cos, sin: (T, D), rows of `rotary_table` for the positions at hand, or (B, 1, T, D).
        pairing: component i goes with i + D/2 ("half"), or 2i with 2i + 1 ("interleaved").
    """

    cos: Tensor
    sin: Tensor
    pairing: Literal["half", "interleaved"]

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate queries or keys (B, heads, T, D)."""
        return x * self.cos.to(x.dtype) + self._quarter_turn(x) * self.sin.to(x.dtype)

    def _quarter_turn(self, x: Tensor) -> Tensor:
        """Each pair (a, b) becomes (-b, a)."""
        if self.pairing == "half":
            a, b = x.chunk(2, dim=-1)
            return torch.cat((-b, a), dim=-1)
        return torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)
