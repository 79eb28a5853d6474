"""A recipe: everything that decides what a training run does, as typed data."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from glassgpt.config import Config
from glassgpt.data.config import DataConfig
from glassgpt.device import check_device_name
from glassgpt.errors import show
from glassgpt.generation.config import SamplingConfig
from glassgpt.model.config import ModelConfig
from glassgpt.tokenizers import TokenizerConfig

STEPS = 10**12
"""The most of whatever counts steps, evaluations or files: more than any machine lives to see."""
RATE = 1e12
"""The highest learning rate, weight decay and the like: far beyond what trains, within what float32 computes with."""


class TrainingConfig(Config):
    """How a model is trained: how long, with which optimizer, on what, and how often it is looked at."""

    seed: int = Field(0, ge=0, lt=2**63, description="decides the first weights, the batches and the dropout")
    max_steps: int | None = Field(
        None, ge=1, le=STEPS, description="optimizer steps; with epochs too, whichever is less"
    )
    epochs: float | None = Field(None, gt=0, le=1e9, description="times over the training windows")
    max_seconds: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="stop after so many seconds of training, counted from where it begins or goes on",
    )
    batch_size: int = Field(32, ge=1, le=2**20, description="windows in a batch")
    gradient_accumulation: int = Field(
        1, ge=1, le=2**16, description="batches whose gradients are added up for one step"
    )

    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="adamw: for all; muon: for the matrices inside the blocks, and AdamW for the rest"
    )
    learning_rate: float = Field(
        1e-3, gt=0, le=RATE, description="the highest learning rate; others rise and fall in proportion with it"
    )
    embedding_learning_rate: float | None = Field(
        None, gt=0, le=RATE, description="the same, of AdamW on embeddings; left out: learning_rate"
    )
    muon_learning_rate: float = Field(0.02, gt=0, le=RATE, description="the same, of Muon")
    min_learning_rate: float = Field(0.0, ge=0, le=RATE, description="where cosine, linear and wsd end")
    schedule: Literal["constant", "cosine", "linear", "wsd"] = Field(
        "cosine", description="after the warm-up: stay; fall by cosine; fall in a line; stay, then fall in a line (wsd)"
    )
    warmup_steps: int = Field(0, ge=0, le=STEPS, description="steps in which the learning rate rises from 0")
    decay_fraction: float = Field(0.2, gt=0, le=1, description="wsd: share of the steps, at the end, in which it falls")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW: memory of the gradient's mean")
    beta2: float = Field(0.99, ge=0, lt=1, description="AdamW: memory of its square")
    eps: float = Field(1e-8, ge=1e-30, le=RATE, description="AdamW: added to the root of the square")
    weight_decay: float = Field(0.1, ge=0, le=RATE, description="on matrices and embeddings, not on biases and gains")
    muon_momentum: float = Field(0.95, ge=0, lt=1, description="Muon: memory of the gradient")
    muon_rounds: int = Field(5, ge=1, le=20, description="Muon: rounds of products that make a step orthogonal")
    grad_clip: float = Field(1.0, ge=0, le=1e9, description="gradients longer than this are shortened to it; 0: never")

    device: str = Field("auto", description="auto (cuda, else mps, else cpu), or one by name, such as cuda:1")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of matrix products. auto: the fastest that the device has in hardware"
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Number of CPU threads (default: chosen by a short trial when the run begins, and kept in the run)",
    )
    compile: bool = Field(
        False, description="torch.compile: slow to begin, then faster; falls back where no compiler is"
    )
    activation_checkpointing: bool = Field(
        False, description="keep only what goes into each block: less memory, but a step takes about a third longer"
    )

    eval_every: int = Field(250, ge=1, le=STEPS, description="steps between evaluations (one more at the end)")
    eval_tokens: int | None = Field(
        None, ge=1, le=STEPS, description="evaluate about so many tokens; left out: the whole split"
    )
    patience: int | None = Field(
        None, ge=1, le=STEPS, description="stop after so many evaluations without a new best; left out: never"
    )
    checkpoint_every: int | str | None = Field(
        None,
        description="steps between checkpoints, or time, such as 90s, 5min or 1h; left out: eval_every. One more comes "
        "at each best evaluation",
    )
    keep_checkpoints: int = Field(
        2, ge=1, le=STEPS, description="how many of the newest checkpoints stay, beside the best one"
    )
    max_skipped_steps: int = Field(
        10,
        ge=1,
        le=STEPS,
        description="a step whose loss or gradient is infinite or not a number changes nothing; after so many in a "
        "row, training stops",
    )
    log_every: int = Field(10, ge=1, le=STEPS, description="steps between lines of the metrics file")
    watch_gradients: int | None = Field(
        None,
        ge=1,
        le=STEPS,
        description="steps between lines of gradients.jsonl: norms of gradients, weights and updates by layer, and "
        "what the blocks' activations are like; left out: never",
    )
    track: list[Literal["tensorboard", "wandb"]] = Field(
        [],
        description="show those lines in TensorBoard, Weights & Biases (offline, unless WANDB_MODE=online), or both; "
        'each takes an extra: pip install "glassgpt[tensorboard]"',
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.max_steps is None and self.epochs is None:
            raise ValueError("no end: set max_steps or epochs")
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate {self.min_learning_rate} is above learning_rate {self.learning_rate}: lower it"
            )
        return self

    @field_validator("checkpoint_every", mode="before")
    @classmethod
    def _steps_or_time(cls, value: object) -> object:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,13}", value.strip()):
            value = int(value)
        is_time = isinstance(value, str) and _seconds(value) is not None
        if not (value is None or is_time or (type(value) is int and 0 < value <= STEPS)):
            raise ValueError(f"a number of steps, or a time such as 90s, 5min or 1h, not {show(value)}")
        return value

    @property
    def checkpoint_steps(self) -> int | None:
        """`checkpoint_every`, if it counts steps."""
        return self.checkpoint_every if isinstance(self.checkpoint_every, int) else None

    @property
    def checkpoint_seconds(self) -> float | None:
        """`checkpoint_every` in seconds, if it is a time."""
        return _seconds(self.checkpoint_every) if isinstance(self.checkpoint_every, str) else None

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        return check_device_name(value)


def _seconds(time: str) -> float | None:
    """A time such as "90 s", "5min" or "1.5 h" in seconds; None if it is none."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(s|min|h)", time.strip())
    seconds = float(found[1]) * {"s": 1, "min": 60, "h": 3600}[found[2]] if found else 0.0
    return seconds or None


class Recipe(Config):
    """What a run is made from, complete and rerunnable."""

    description: str = Field("", description="one line about it")
    data: DataConfig = Field(default_factory=DataConfig, description="the text")
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig, description="how text becomes tokens")
    model: ModelConfig = Field(default_factory=ModelConfig, description="the shape of the model")
    training: TrainingConfig = Field(description="how it is trained")
    sampling: SamplingConfig = Field(default_factory=SamplingConfig, description="how it writes")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.training.patience is not None and self.data.val_fraction == 0:
            raise ValueError("training.patience waits for a better validation loss, but data.val_fraction is 0")
        return self
