"""What every tokenizer is: text to ids and back, through bytes."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

from glassgpt.errors import UserError
from glassgpt.files import read_json, write_json
from glassgpt.tokenizers.utf8 import decode_utf8, unfinished_tail

FORMAT = "glassgpt-tokenizer"
VERSION = 1


class Tokenizer(ABC):
    """Text to ids and back.

    A kind of tokenizer says how text is cut (`encode`), which bytes each id stands for (`token_bytes`) and what has to
    be remembered (`state`); decoding, streaming and files are the same for all of them. Going through bytes makes
    partial characters an ordinary case, and lets models with different tokenizers be compared per byte of text.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """How many ids there are; every id is below it."""

    @property
    def special_tokens(self) -> dict[str, int]:
        """The ids that no text encodes to, by name."""
        return {}

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text."""

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """The UTF-8 bytes that one id stands for; may be a part of a character."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What `from_state` needs to make the same tokenizer again, as JSON data."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make a tokenizer from what `state` returned. Raises KeyError, TypeError or ValueError on anything else."""

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of a sequence of ids.

        Raises:
            UserError: an id is not in the vocabulary.
        """
        return b"".join([self._checked_bytes(token) for token in ids])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of a sequence of ids; bytes that are no UTF-8 become U+FFFD."""
        return decode_utf8(self.decode_bytes(ids))

    def stream(self) -> "StreamDecoder":
        """A decoder that takes ids one at a time and never breaks a character."""
        return StreamDecoder(self)

    def save(self, path: Path | str) -> None:
        """Write the tokenizer as versioned JSON."""
        write_json(Path(path), self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The tokenizer as JSON data: what `save` writes."""
        return {"format": FORMAT, "version": VERSION, "kind": self.kind, **self.state()}

    @property
    def fingerprint(self) -> str:
        """A short hash of all that decides which ids a text becomes."""
        canonical = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:16]

    def _checked_bytes(self, token: int) -> bytes:
        if not 0 <= token < self.vocab_size:
            raise UserError(f"token id {token} is not in the vocabulary (0 to {self.vocab_size - 1})")
        return self.token_bytes(token)


class StreamDecoder:
    """Turns ids into text as they come, holding back a character until all of its bytes are there.

    The pieces joined are what `decode` gives for all the ids at once.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._pending = b""

    def push(self, token: int) -> str:
        """Take one id; return the text that is now complete, which may be empty."""
        data = self._pending + self._tokenizer.decode_bytes([token])
        complete = len(data) - unfinished_tail(data)
        self._pending = data[complete:]
        return decode_utf8(data[:complete])

    def finish(self) -> str:
        """Return what was held back; the decoder is then as new."""
        data, self._pending = self._pending, b""
        return decode_utf8(data)


def read_tokenizer_file(path: Path) -> dict[str, Any]:
    """Read and check the envelope of a tokenizer file.

    Raises:
        UserError: the file is missing, damaged, no tokenizer, or from a newer glassgpt.
    """
    data = read_json(path, "a glassgpt tokenizer")
    if data.pop("format", None) != FORMAT:
        raise UserError(f"{path}: not a glassgpt tokenizer (no format {FORMAT!r} in it)")
    version = data.pop("version", None)
    if not isinstance(version, int) or version < 1:
        raise UserError(f"{path}: damaged tokenizer file: version is {version!r}")
    if version > VERSION:
        raise UserError(f"{path}: written by a newer glassgpt (format {version}, this one reads {VERSION}); update it")
    return data
