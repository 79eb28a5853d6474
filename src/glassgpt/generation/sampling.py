"""The next token of a sequence: what the plain functions of `filters.py` give, in less time; and log-probabilities.

A vocabulary of 50,257 is neither sorted nor added up token by token: top-k finds its k tokens by maxima of columns,
top-p looks at the likeliest alone, and all that follows works on what is left.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassgpt.errors import UserError
from glassgpt.generation.arguments import check_seed
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.filters import NEVER, NO_WEIGHT, SCALE

Floats = NDArray[np.floating]
Places = NDArray[np.intp]

GREEDY_BELOW = 1e-6  # dividing by a temperature as low as this overflows; the likeliest token has all the probability
BLOCK = 1024  # a large vocabulary is looked at in blocks of so many


def row_seed(seed: int, row: int) -> int:
    """The seed of row `row` of a seed: streams that have nothing to do with each other."""
    return int(np.random.SeedSequence((seed, row)).generate_state(1, np.uint64)[0] >> np.uint64(1))


class TokenSampler:
    """Chooses the tokens of one sequence, as its configuration asks and by random numbers of its own.

    Args:
        config: how to choose.
        seed: the same seed and the same logits give the same tokens, whatever is chosen for other sequences beside it.

    Attributes:
        needs_ids: whether `choose` looks at the ids so far.
        is_greedy: whether it always takes the argmax of the logits as they come, so that nobody need ask.
    """

    def __init__(self, config: SamplingConfig, seed: int):
        self._config = config
        self._generator = torch.Generator().manual_seed(row_seed(check_seed(seed), 0))
        self._takes_likeliest = config.temperature < GREEDY_BELOW
        self.needs_ids = config.repetition_penalty != 1
        self.is_greedy = self._takes_likeliest and not self.needs_ids

    def choose(self, logits: Tensor, ids: Tensor | None = None) -> int:
        """The next token: that of `draw(filter_logits(...))`, by one random number; or the likeliest.

        Args:
            logits: (V,) float32 on any device; they stay as they are.
            ids: the tokens so far, (S,); only looked at if `needs_ids`.

        Raises:
            UserError: the logits are not numbers.
        """
        config = self._config
        scores: Floats = logits.numpy(force=True)
        if self.needs_ids:
            assert ids is not None
            scores, seen = scores.copy(), ids.numpy(force=True)
            penalty, found = config.repetition_penalty, scores[seen]
            scores[seen] = np.where(found < 0, found * penalty, found / penalty)
        if self._takes_likeliest:
            best = int(scores.argmax())
            _check(float(scores[best]))
            return best
        scores = scores / config.temperature
        highest = float(scores.max())
        _check(highest)
        tokens: Places | None = None  # all
        if 0 < (config.top_k or 0) < len(scores):
            tokens = _highest(scores, config.top_k or 0)
        elif config.min_p > 0 and config.top_p >= 1:  # what it keeps and some more, which the weights decide on
            tokens = np.flatnonzero(scores >= highest + math.log(config.min_p) - 1)
        offsets = (scores if tokens is None else scores[tokens]).astype(np.float64) - highest
        left = _Candidates(tokens, offsets, _weights(offsets))
        if config.top_p < 1:
            left = left.only(np.sort(_fewest(left.offsets, left.weights, config.top_p)))
        if config.min_p > 0:
            left = left.only(np.flatnonzero(left.weights >= config.min_p * SCALE))
        if config.typical_p < 1:
            left = left.only(_typical(left.offsets, left.weights, config.typical_p))
            left = left._replace(weights=_weights(left.offsets - left.offsets.max()))
        place = self._draw(left.weights)
        return place if left.tokens is None else int(left.tokens[place])

    def _draw(self, weights: Floats) -> int:
        total = float(weights.sum())
        dart = torch.rand((), generator=self._generator, dtype=torch.float64).item()
        dart = min(math.floor(dart * total), total - 1)
        begin = 0
        if len(weights) > BLOCK:  # find the block first: adding up one by one takes longest
            sums = weights[: len(weights) - len(weights) % BLOCK].reshape(-1, BLOCK).sum(axis=1).cumsum()
            block = int(sums.searchsorted(dart, side="right"))
            dart -= float(sums[block - 1]) if block else 0.0
            begin = block * BLOCK
        return begin + int(weights[begin : begin + BLOCK].cumsum().searchsorted(dart, side="right"))


class _Candidates(NamedTuple):
    """The tokens still in question: their ids in order (None: all), logits less the highest, and weights."""

    tokens: Places | None
    offsets: Floats
    weights: Floats

    def only(self, kept: Places) -> "_Candidates":
        tokens = kept if self.tokens is None else self.tokens[kept]
        return _Candidates(tokens, self.offsets[kept], self.weights[kept])


def _check(highest: float) -> None:
    """Whether logits are numbers can be seen from the highest of them: NaN counts as such."""
    if not math.isfinite(highest):
        raise not_a_number()


def not_a_number() -> UserError:
    """What to say of logits that are none."""
    return UserError("the model's output is not a number: its weights are damaged, or its training diverged")


def _weights(offsets: Floats) -> Floats:
    """`token_weights`, of logits less the highest of them."""
    weights = np.exp(offsets)
    weights *= SCALE
    return np.floor(weights, out=weights)


def _highest(scores: Floats, k: int) -> Places:
    """Where the k highest are, and those as high as the k-th, in order."""
    among: Places | None = None
    if len(scores) > 8 * BLOCK and k <= BLOCK // 2:
        # Cut into columns. The k-th highest of their maxima is not above the k-th highest of all, and not far below.
        maxima = scores[: len(scores) - len(scores) % BLOCK].reshape(-1, BLOCK).max(axis=0)
        among = np.flatnonzero(scores >= np.partition(maxima, BLOCK - k)[BLOCK - k])
        scores = scores[among]
    kth = np.partition(scores, len(scores) - k)[len(scores) - k]
    kept = np.flatnonzero(scores >= kth)
    return kept if among is None else among[kept]


def _fewest(scores: Floats, weights: Floats, share: float) -> Places:
    """Where the fewest of highest score are whose weights reach a share of all weights; the highest first."""
    goal = share * float(weights.sum())
    places = np.arange(len(scores)) if len(scores) <= BLOCK else _reaching(scores, weights, goal)
    places = places[np.argsort(-scores[places], kind="stable")]
    return places[: 1 + int(weights[places].cumsum().searchsorted(goal))]


def _reaching(scores: Floats, weights: Floats, goal: float) -> Places:
    """Where scores are higher than a bound that is low enough for their weights to reach a goal; in order."""
    highest, depth = scores.max(), 2.0
    while True:
        places = np.flatnonzero(scores >= highest - depth)
        if weights[places].sum() >= goal:
            return places
        depth *= 1.5


def _typical(offsets: Floats, weights: Floats, share: float) -> Places:
    """Where the tokens are that `keep_typical` keeps."""
    expected = float(weights @ np.maximum(offsets, NO_WEIGHT)) / float(weights.sum())
    distance = np.abs(offsets - expected)
    return np.flatnonzero(distance <= distance[_fewest(-distance, weights, share)[-1]])


@dataclass(frozen=True)
class TokenLogprobs:
    """How likely a token was, and which were the likeliest: natural logarithms of probabilities.

    Attributes:
        chosen: of the token that was chosen.
        top: of the likeliest, (id, log-probability), the likeliest first.
    """

    chosen: float
    top: tuple[tuple[int, float], ...]


def log_probabilities(logits: Tensor, chosen: int, top: int = 0) -> TokenLogprobs:
    """Log-probabilities by the model itself, before any temperature or filter.

    Args:
        logits: (V,) float, raw.
        chosen: an id.
        top: how many of the likeliest to list; fewer if fewer are possible. Equally likely ones come by id.

    Raises:
        UserError: the logits are not numbers.
    """
    scores: Floats = logits.numpy(force=True).astype(np.float64)
    highest = float(scores.max())
    _check(highest)
    scores -= highest  # so that no exp overflows
    logprobs = scores - math.log(float(np.exp(scores).sum()))
    if top == 0:
        return TokenLogprobs(float(logprobs[chosen]), ())
    places = _highest(scores, top) if top < len(scores) else np.arange(len(scores))
    places = places[scores[places] > NEVER]
    likeliest = places[np.argsort(-scores[places], kind="stable")][:top]
    return TokenLogprobs(float(logprobs[chosen]), tuple((int(i), float(logprobs[i])) for i in likeliest))
