"""Bytes as tokens: any text at all, with a vocabulary that needs no training."""

from typing import Any, ClassVar, Self

from glassgpt.errors import show
from glassgpt.tokenizers.base import END_OF_TEXT, Tokenizer, require_text
from glassgpt.tokenizers.utf8 import encode_utf8


class ByteTokenizer(Tokenizer):
    """Ids 0 to 255 are the bytes of UTF-8; 256 is `<|endoftext|>`, which no text encodes to."""

    kind: ClassVar[str] = "byte"

    @property
    def vocab_size(self) -> int:
        """256 bytes and one special token."""
        return 257

    @property
    def special_tokens(self) -> dict[str, int]:
        """`<|endoftext|>`: a document ends."""
        return {END_OF_TEXT: 256}

    def encode(self, text: str) -> list[int]:
        """One id a byte."""
        require_text(text)
        return list(encode_utf8(text))

    def token_bytes(self, token: int) -> bytes:
        """The byte itself, or the special token's name."""
        return bytes([token]) if token < 256 else END_OF_TEXT.encode("ascii")

    def state(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """There is only one."""
        if state:
            raise ValueError(f"a byte tokenizer has no {show(min(state))}")
        return cls()
