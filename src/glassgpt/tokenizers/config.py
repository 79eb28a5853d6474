"""Which tokenizer a recipe trains with, as typed data."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from glassgpt.config import Config
from glassgpt.tokenizers.base import END_OF_TEXT
from glassgpt.tokenizers.bpe import LONGEST_SPECIAL, MOST_SPECIAL
from glassgpt.tokenizers.pieces import Pieces

Kind = Literal["char", "byte", "word", "bpe", "gpt2"]


class TokenizerConfig(Config):
    """How text becomes tokens."""

    kind: Kind = Field(
        "char",
        description="char: one token a character; byte: one a byte of UTF-8; word: one a word or sign; "
        "bpe: byte pairs learned from the training text; gpt2: GPT-2's own",
    )
    file: str | None = Field(
        None, description="a tokenizer made by `glassgpt tokenizer train`, in place of a kind; left out: made anew"
    )
    vocab_size: int | None = Field(
        None,
        ge=3,
        le=2**24,
        description="bpe: entries, special ones included (left out: 4096); word: the most entries (left out: all)",
    )
    min_count: int = Field(
        2, ge=1, le=2**40, description="word: words that the training text has less often become <|unk|>"
    )
    pattern: str = Field(
        "gpt2", min_length=1, description="bpe: how text is cut before merging: gpt2, gpt4, or a regular expression"
    )
    special: list[str] = Field([], description="bpe: special tokens beside <|endoftext|>, such as <|user|>")
    unknown: bool = Field(False, description="char: an <unk> token for characters that the text did not have")
    fingerprint: str | None = Field(
        None, description="written by a run so that the same tokenizer is met again; left out: not checked"
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        Pieces(value)
        return value

    @field_validator("special")
    @classmethod
    def _distinct(cls, value: list[str]) -> list[str]:
        if "" in value or END_OF_TEXT in value or len(set(value)) < len(value):
            raise ValueError(f"names that differ from each other and from {END_OF_TEXT}, none of them empty")
        if len(value) >= MOST_SPECIAL or max(map(len, value), default=0) > LONGEST_SPECIAL:
            raise ValueError(f"fewer than {MOST_SPECIAL:,} names, of at most {LONGEST_SPECIAL:,} characters")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        least = 257 + len(self.special)
        if self.kind == "bpe" and self.file is None and self.vocab_size is not None and self.vocab_size < least:
            raise ValueError(
                f"vocab_size {self.vocab_size}: a bpe tokenizer has {least} entries before it learns anything "
                "(256 bytes and the special tokens)"
            )
        return self
