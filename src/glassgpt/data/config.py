"""Which text a model learns from, and in which order, as typed data."""

from typing import Literal

from pydantic import Field, field_validator

from glassgpt.config import Config
from glassgpt.paths import require_text


class DataConfig(Config):
    """The text and how it is cut."""

    source: list[str] = Field(
        ["python-reference"],
        description="a corpus by name, files, folders, patterns of names, - for standard input, or a folder that "
        "`glassgpt prepare` made",
    )
    sha256: str | None = Field(
        None, description="the text's hash, written by a run so that the same text is met again; left out: not checked"
    )
    val_fraction: float = Field(
        0.1, ge=0, lt=1, description="share of the text, at its end, that is kept for validation"
    )
    text_field: str = Field("text", min_length=1, description="which field of .jsonl and .parquet holds the text")
    separator: str | None = Field(
        None,
        min_length=1,
        description="what stands between the documents of one text file, such as <|endoftext|>; newlines behind it are "
        "left out, too; left out: a file is a document",
    )
    cross_documents: bool = Field(
        True,
        description="whether a window may reach from one document into the next; if not, shorter documents than "
        "a window are left out of training",
    )
    order: Literal["windows", "epochs"] = Field(
        "windows", description="windows: at random places; epochs: every window once, in a new order each epoch"
    )
    stride: int | None = Field(
        None,
        ge=1,
        le=2**40,
        description="epochs: tokens from one window's start to the next; left out: the block size (no overlap)",
    )

    @field_validator("source", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        names = [value] if isinstance(value, str) else value
        for name in names if isinstance(names, list | tuple) else ():
            if isinstance(name, str):
                require_text(name)
        return names

    @field_validator("source")
    @classmethod
    def _not_empty(cls, value: list[str]) -> list[str]:
        if not value or "" in value:
            raise ValueError("an empty name: name a corpus, a file or a folder")
        return value
