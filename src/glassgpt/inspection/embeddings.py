"""Which tokens lie near each other, and how a model tells positions apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.errors import UserError
from glassgpt.inspection.capture import as_gpt


@dataclass(frozen=True)
class Projection:
    """Vectors in the few directions in which they differ most.

    Attributes:
        coordinates: (N, k); their mean is 0.
        explained: the share of the whole variance that each direction has, (k,), the largest first.
    """

    coordinates: Tensor
    explained: Tensor


@torch.no_grad()
def project(table: Tensor, components: int = 2) -> Projection:
    """Principal components of vectors (Pearson, 1901).

    The singular values of the centred table, squared, and its right singular vectors are the eigenvalues and
    eigenvectors of its C × C products, which for a large vocabulary are found many times faster. Of the two directions
    of each vector, the one is taken in which its largest entry is positive.

    Args:
        table: (N, C).
        components: k. Where C is smaller, the others are 0.

    Raises:
        UserError: a vector's numbers are none.
    """
    table = table.detach().float().cpu()
    if not table.isfinite().all():
        row = int((~table.isfinite()).any(dim=-1).nonzero()[0])
        raise UserError(f"vector {row} of {len(table)} is not a number: the weights are damaged, or training diverged")
    scale = table.abs().max().clamp(min=torch.finfo(torch.float32).tiny)  # so that no square is too large
    centred = table / scale
    centred = centred - centred.mean(dim=0)  # (N, C)
    products = (centred.T @ centred).double()
    variances, directions = torch.linalg.eigh(products)  # rising
    variances, directions = variances.flip(0)[:components].clamp(min=0), directions.flip(1)[:, :components]
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))  # (1, k)
    coordinates = centred @ (directions * largest.sign()).float()
    explained = variances / products.trace().clamp(min=torch.finfo(torch.float64).tiny)
    missing = (0, components - len(variances))
    return Projection(F.pad(coordinates * scale, missing), F.pad(explained, missing).float())


def neighbours(table: Tensor, index: int, count: int = 8) -> list[tuple[int, float]]:
    """The rows of a table (N, C) that point most nearly the way row `index` does: (row, cosine), the nearest first.

    Raises:
        UserError: there is no such row.
    """
    return neighbours_of_each(table, [index], count)[0]


@torch.no_grad()
def neighbours_of_each(table: Tensor, indices: Sequence[int], count: int = 8) -> list[list[tuple[int, float]]]:
    """The same of several rows, in one matrix product."""
    for index in indices:
        if not 0 <= index < len(table):
            raise UserError(f"there is no row {index} (0 to {len(table) - 1})")
    directions = F.normalize(table.detach().float().cpu(), dim=-1)
    chosen = torch.tensor(indices, dtype=torch.int64)
    cosines = directions[chosen] @ directions.T  # (n, N)
    cosines[range(len(chosen)), chosen] = -2.0  # itself comes last
    nearest = cosines.topk(min(count, len(table) - 1))
    rows = zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)
    return [list(zip(*row, strict=True)) for row in rows]


@torch.no_grad()
def position_vectors(model: nn.Module) -> Tensor | None:
    """A vector for each position that a model can tell from others, (S, C), S being the block size.

    Rotary positions add no vector but turn others: theirs are the cosines and sines of the angles, (S, 2 D). None where
    the model has no positions.
    """
    model = as_gpt(model)
    if model.config.position == "none":
        return None
    if model.config.position == "rotary":
        cos, sin = model.rotations.float().cpu()  # (S, D) each: every angle twice
        return torch.cat((cos, sin), dim=-1)
    learned = model.position_embedding
    return (model.waves if learned is None else learned.weight).detach().float().cpu()


def position_similarity(model: nn.Module) -> Tensor | None:
    """How alike a model finds positions to be, (S, S) from -1 to 1: the cosine of their vectors.

    For rotary positions, this is the cosine that a vector of equal parts has with itself, turned as each of the two
    positions would have it. None where the model has no positions.
    """
    vectors = position_vectors(model)
    if vectors is None:
        return None
    directions = F.normalize(vectors, dim=-1)
    return directions @ directions.T
