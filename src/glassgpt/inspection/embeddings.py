"""Which tokens lie near each other, and how a model tells positions apart."""

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
    """
    centred = table.detach().cpu().double()
    centred = centred - centred.mean(dim=0)  # (N, C)
    variances, directions = torch.linalg.eigh(centred.T @ centred)  # rising
    variances, directions = variances.flip(0)[:components].clamp(min=0), directions.flip(1)[:, :components]
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))  # (1, k)
    coordinates = centred @ (directions * largest.sign())
    explained = variances / centred.square().sum().clamp(min=torch.finfo(torch.float64).tiny)
    missing = (0, components - len(variances))
    return Projection(F.pad(coordinates, missing).float(), F.pad(explained, missing).float())


@torch.no_grad()
def neighbours(table: Tensor, index: int, count: int = 8) -> list[tuple[int, float]]:
    """The rows of a table (N, C) that point most nearly the way row `index` does: (row, cosine), the nearest first.

    Raises:
        UserError: there is no such row.
    """
    if not 0 <= index < len(table):
        raise UserError(f"there is no row {index} (0 to {len(table) - 1})")
    table = table.detach().float().cpu()
    cosines = F.cosine_similarity(table, table[index : index + 1])  # (N,)
    cosines[index] = -2.0  # itself comes last
    nearest = cosines.topk(min(count, len(table) - 1))
    return list(zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True))


@torch.no_grad()
def position_similarity(model: nn.Module) -> Tensor | None:
    """How alike a model finds positions to be, (S, S) from -1 to 1, S being the block size.

    The cosine of their vectors; for rotary positions, which have none, the mean of cos(difference of angles) over the
    frequencies, which is the cosine that a vector of equal parts would have with itself after the rotations. None
    where the model has no positions.
    """
    model = as_gpt(model)
    if model.config.position == "none":
        return None
    if model.config.position == "rotary":
        cos, sin = model.rotations.float().cpu()  # (S, D) each: every angle twice
        vectors = torch.cat((cos, sin), dim=-1)
    elif model.position_embedding is not None:
        vectors = model.position_embedding.weight.detach().float().cpu()
    else:
        vectors = model.waves.float().cpu()
    directions = F.normalize(vectors, dim=-1)
    return directions @ directions.T
