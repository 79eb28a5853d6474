"""Texts by their parts, with what each was written with; and a session of them as files."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from glassgpt.config import Config
from glassgpt.errors import DamagedError, UserError, reason
from glassgpt.generation.config import SamplingConfig
from glassgpt.paths import expand, is_text
from glassgpt.reading import parse_json

BETWEEN_TEXTS = "\n\n" + "-" * 40 + "\n\n"

Mark = tuple[str, Annotated[float, Field(ge=0, le=1)] | None]
"""A piece of text and its probability; that of the least likely one, where it took several tokens."""


class PlaySettings(SamplingConfig):
    """What `/set` can change: how text is sampled, and the seed."""

    prompt: str | None = Field(None, exclude=True, description="nothing here: beginnings are typed")
    seed: int | None = Field(None, ge=0, description="the same seed gives the same text; none: another one each time")


class Typed(Config):
    """A part of a text that a person gave."""

    typed: str = Field(description="the text")

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The text, with no probability."""
        return ((self.typed, None),)


class Written(Config):
    """A part of a text that the model wrote."""

    marks: tuple[Mark, ...] = Field(description="pieces of text as they came, each with its probability")
    settings: PlaySettings = Field(description="what it was written with, its seed included")
    finish_reason: Literal["stop", "length", "interrupted"] = Field(description="why it ends where it ends")


Text = tuple[Typed | Written, ...]
"""A text by its parts."""


class SavedSession(Config):
    """A session as a file."""

    format: Literal["glassgpt-session"] = Field("glassgpt-session", description="what kind of file this is")
    version: Literal[1] = Field(1, description="of the format")
    run: str = Field(description="the run folder whose model wrote it")
    settings: PlaySettings = Field(description="the settings at the end")
    texts: tuple[Text, ...] = Field(description="the texts, in the order in which they were begun")


def parse_session(content: str, file: Path) -> SavedSession:
    """A session from the content of its file.

    Raises:
        DamagedError: it is no such content.
        UserError: a field is wrong.
    """
    try:
        values = parse_json(content)
    except ValueError as error:
        raise DamagedError(f"{file}: not readable as a session that /save wrote: {reason(error)}") from None
    if not isinstance(values, dict):
        raise DamagedError(f"{file}: not readable as a session that /save wrote: no JSON object")
    saved = SavedSession.parse(values, str(file))
    if not all(text and is_text(text_of(text)) for text in saved.texts):
        raise DamagedError(f"{file}: texts: one of them has no parts, or halves of surrogate pairs in it")
    return saved


def setting_names() -> list[str]:
    """What `set` knows: all but the prompt, which is typed."""
    return [name for name in PlaySettings.model_fields if name != "prompt"]


def text_of(parts: Sequence[Typed | Written]) -> str:
    """The text that parts make up together."""
    return "".join(text for part in parts for text, _ in part.marks)


def characters(text: str) -> str:
    """The text without halves of surrogate pairs, which are no characters and fit into no file."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


def session_files(name: str) -> tuple[Path, Path]:
    """The paths of a session's text and data; its name may be given as either of them."""
    base = re.sub(r"\.(txt|json)$", "", name.strip())
    path = expand(base) if base else Path()
    if path.name in ("", ".", ".."):
        raise UserError(f"{name or 'no name'}: a name for the file is needed")
    return path.with_name(path.name + ".txt"), path.with_name(path.name + ".json")
