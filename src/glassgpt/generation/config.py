"""How the next token is chosen, as typed data."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from glassgpt.config import Config


class SamplingConfig(Config):
    """How text is written: where it begins, how long it gets, how each next token is drawn."""

    prompt: str | None = Field(
        None, min_length=1, description="the beginning of samples; left out: a newline, or the text's first character"
    )
    max_new_tokens: int = Field(256, ge=1, le=100_000_000, description="the most tokens to write")
    temperature: float = Field(
        0.8,
        ge=0,
        le=1e6,
        description="logits are divided by it: below 1 safer, above 1 bolder; 0: always the likeliest (greedy)",
    )
    top_k: int | None = Field(None, ge=0, le=2**40, description="only the k likeliest tokens; left out or 0: all")
    top_p: float = Field(
        1.0, ge=0, le=1, description="only the likeliest tokens that make up this probability together"
    )
    min_p: float = Field(0.0, ge=0, le=1, description="only tokens at least this share as likely as the likeliest")
    typical_p: float = Field(
        1.0,
        ge=0,
        le=1,
        description="only tokens about as surprising as is to be expected, that make up this probability together",
    )
    repetition_penalty: float = Field(
        1.0, ge=0.001, le=1e12, description="above 1: tokens that are already there become less likely"
    )
    when_full: Literal["crop", "rotate", "stop"] = Field(
        "crop",
        description="a full context: crop: its last half is read again; rotate (rotary positions): the oldest token is "
        "forgotten; stop: the text ends",
    )
    stop: list[Annotated[str, Field(min_length=1)]] = Field(
        [], description="strings that end the text; they are not part of it"
    )

    @field_validator("stop", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value
