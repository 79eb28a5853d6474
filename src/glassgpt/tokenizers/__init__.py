"""Text to ids and back: a ladder of tokenizers, each a small step above the last. No torch in here."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from glassgpt.config import Config
from glassgpt.errors import UserError, suggest
from glassgpt.tokenizers.base import StreamDecoder, Tokenizer, read_tokenizer_file
from glassgpt.tokenizers.byte import ByteTokenizer
from glassgpt.tokenizers.char import CharTokenizer

__all__ = [
    "ByteTokenizer",
    "CharTokenizer",
    "StreamDecoder",
    "Tokenizer",
    "TokenizerConfig",
    "load_tokenizer",
    "make_tokenizer",
]

KINDS: dict[str, type[Tokenizer]] = {cls.kind: cls for cls in (CharTokenizer, ByteTokenizer)}


class TokenizerConfig(Config):
    """Which tokenizer a recipe trains with."""

    kind: Literal["char", "byte"] = Field("char", description="char: one token a character; byte: one a byte of UTF-8")
    unknown: bool = Field(False, description="char: an <unk> token for characters that the text did not have")


def make_tokenizer(config: TokenizerConfig, text: str) -> Tokenizer:
    """The tokenizer that a recipe asks for, its vocabulary taken from `text` where the kind has one to take."""
    if config.kind == "byte":
        return ByteTokenizer()
    return CharTokenizer(text, unknown=config.unknown)


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Read a tokenizer file of any kind.

    Raises:
        UserError: the file is missing, damaged, of an unknown kind, or from a newer glassgpt.
    """
    path = Path(path)
    data = read_tokenizer_file(path)
    kind = str(data.pop("kind", None))
    if kind not in KINDS:
        raise UserError(f"{path}: unknown kind of tokenizer {kind!r}, {suggest(kind, KINDS)}")
    try:
        return KINDS[kind].from_state(data)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged {kind} tokenizer: {error}") from None
