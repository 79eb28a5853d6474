"""What an engine is asked for, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from glassgpt.errors import UserError, show
from glassgpt.generation.arguments import check_ids, check_seed, whole_number
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.sampling import TokenLogprobs

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Request:
    """What is to be written.

    Attributes:
        prompt: ids, at least one, at most a block.
        sampling: how; its strings to stop at are the business of whoever makes text of the ids.
        seed: the same seed gives the same ids, whatever else runs beside it.
        end_ids: ids that end it; the one that did is produced, too.
        logprobs: None for none, 0 for the chosen token's log-probability, n for those of the n likeliest, too; all from
            the logits as the model gives them.
    """

    prompt: Sequence[int]
    sampling: SamplingConfig
    seed: int = 0
    end_ids: frozenset[int] = frozenset()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        """Raises `UserError` for what is of another kind."""
        if not isinstance(self.sampling, SamplingConfig):
            raise UserError(f"sampling: a SamplingConfig is needed, not {show(self.sampling)}")
        known = {
            "prompt": check_ids(self.prompt, "prompt", 2**31),
            "seed": check_seed(self.seed),
            "end_ids": frozenset(whole_number(end, "an id of end_ids", 0, 2**63) for end in self.end_ids),
            "logprobs": None if self.logprobs is None else whole_number(self.logprobs, "logprobs", 0, 2**31),
        }
        for name, value in known.items():
            object.__setattr__(self, name, value)  # it is frozen for everyone else


@dataclass(frozen=True)
class Produced:
    """A new token of a request.

    Attributes:
        ticket: whose.
        id: the token.
        logprobs: if they were asked for.
        finish_reason: with the last one: "stop" for an id that ends it, "length" for the most tokens it may have,
            or for a full context where `when_full` is "stop".
    """

    ticket: int
    id: int
    logprobs: TokenLogprobs | None
    finish_reason: FinishReason | None
