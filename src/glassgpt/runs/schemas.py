"""What the files of a run hold: one definition for whoever writes them and whoever reads them back."""

from typing import Annotated, Required

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

Count = Annotated[int, Field(ge=0, le=2**63)]
Step = Annotated[int, Field(ge=1, le=2**63)]
Amount = Annotated[float, Field(ge=0)]
Figure32 = Annotated[float, Field(ge=-3.5e38, le=3.5e38)]  # what float32 can hold, and a picture can show
Size32 = Annotated[float, Field(ge=0, le=3.5e38)]
_MORE = ConfigDict(extra="allow")  # another version may know more: it is kept


class MetricsRow(TypedDict, total=False):
    """A line of metrics.jsonl. Older versions wrote fewer figures."""

    __pydantic_config__ = _MORE  # type: ignore[misc]
    step: Required[Step]
    tokens: Count
    bytes: Count
    train_loss: Figure32 | None
    val_loss: Figure32 | None
    val_bits_per_byte: Figure32 | None
    lr: Size32
    grad_norm: Size32 | None
    skipped: Count
    tokens_per_second: Size32 | None
    seconds: Size32


FlowFigures = dict[str, dict[str, Figure32 | None]]


class FlowRow(TypedDict):
    """A line of gradients.jsonl, as `training.flow.Flow` has it."""

    __pydantic_config__ = _MORE  # type: ignore[misc]
    step: Step
    parts: Annotated[FlowFigures, Field(min_length=1)]
    blocks: FlowFigures


class Judgement(TypedDict, total=False):
    """What a model makes of a text."""

    __pydantic_config__ = _MORE  # type: ignore[misc]
    loss: Required[Figure32]
    bits_per_byte: Required[Figure32]
    perplexity: Amount


class Summary(Judgement, total=False):
    """What summary.json holds: how a run ended."""

    __pydantic_config__ = _MORE  # type: ignore[misc]
    description: str
    evaluated_on: str
    evaluated_tokens: Count
    evaluated_bytes: Count
    bigram: Judgement | None
    best_step: Count
    steps: Required[Count]
    skipped_steps: Count
    tokens: Count
    bytes_per_token: Amount
    training_seconds: Required[Amount]
    tokens_per_second: Amount
    parameters: Count
    vocab_size: Count | None
    tokenizer: str
    stop_reason: str
    device: str
    precision: str
    versions: dict[str, str]


class TrackerNote(TypedDict):
    """What Weights & Biases was told so far: see `training.trackers.WeightsAndBiases`."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    step: Count
    session: str | None


class LossScale(TypedDict):
    """The state of `torch.amp.GradScaler`, as it says it itself."""

    scale: Annotated[float, Field(gt=0)]
    growth_factor: Annotated[float, Field(gt=1)]
    backoff_factor: Annotated[float, Field(gt=0, lt=1)]
    growth_interval: Step
    _growth_tracker: Count


class NoScale(TypedDict):
    """Where numbers need no scaling."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]


Scaler = LossScale | NoScale
