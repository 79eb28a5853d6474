"""What every tokenizer is: text to ids and back, through bytes."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from operator import index
from pathlib import Path
from shlex import quote
from typing import Any, ClassVar, Self

from glassgpt.errors import UserError, show
from glassgpt.files import write_json
from glassgpt.paths import expand
from glassgpt.reading import read_json
from glassgpt.tokenizers.utf8 import decode_utf8, unfinished_tail

FORMAT = "glassgpt-tokenizer"
VERSION = 1
END_OF_TEXT = "<|endoftext|>"


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

    def encode_special(self, text: str) -> list[int]:
        """The ids of a text in which the names of special tokens stand for these tokens: for text one trusts."""
        special = self.special_tokens
        if not special:
            return self.encode(text)
        names = sorted(special, key=len, reverse=True)  # the longest of several that begin alike
        parts = re.split(f"({'|'.join(map(re.escape, names))})", text)
        return [i for n, part in enumerate(parts) for i in ([special[part]] if n % 2 else self.encode(part))]

    def safe_cut(self, text: str) -> int:
        """The last place where a long text can be cut in two with no change to its ids; 0 if none is known."""
        return len(text)

    def unknown_bits(self, text: str) -> float:
        """What it takes to spell out all that `encode` turns into an unknown-token, 8 bits a byte; 0 for most kinds.

        An unknown-token says less than the text did. Adding this makes bits per byte comparable all the same.
        """
        return 0.0

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """The UTF-8 bytes that one id stands for; may be a part of a character."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What `from_state` needs to make the same tokenizer again, as JSON data."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make a tokenizer from what `state` returned. Raises ValueError on anything else."""

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of a sequence of ids.

        Raises:
            UserError: an id is not in the vocabulary, or no whole number.
        """
        if not isinstance(ids, Iterable):
            raise UserError(f"token ids are needed, not {show(ids)}")
        return b"".join([self._checked_bytes(token) for token in ids])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of a sequence of ids; bytes that are no UTF-8 become U+FFFD."""
        return decode_utf8(self.decode_bytes(ids))

    def stream(self) -> "StreamDecoder":
        """A decoder that takes ids one at a time and never breaks a character."""
        return StreamDecoder(self)

    def save(self, path: Path | str) -> None:
        """Write the tokenizer as versioned JSON."""
        write_json(expand(path), self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The tokenizer as JSON data: what `save` writes."""
        return {"format": FORMAT, "version": VERSION, "kind": self.kind, **self.state()}

    @property
    def end_of_text(self) -> int | None:
        """The id of `<|endoftext|>`, which stands between documents; None if there is none."""
        return self.special_tokens.get(END_OF_TEXT)

    @property
    def fingerprint(self) -> str:
        """A short hash of all that decides which ids a text becomes."""
        canonical = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:16]

    def _checked_bytes(self, token: int) -> bytes:
        try:
            token = index(token)
        except (TypeError, ValueError, RuntimeError):  # the last of a tensor of several numbers
            raise UserError(f"token id {show(token)} is not a whole number") from None
        if not 0 <= token < self.vocab_size:
            raise UserError(f"token id {show(token)} is not in the vocabulary (0 to {self.vocab_size - 1})")
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


def require_text(text: Any) -> None:
    """Make sure that what is to be encoded is a text.

    Raises:
        UserError: it is not.
    """
    if not isinstance(text, str):
        raise UserError(f"a tokenizer encodes text (str), not {show(text)}")


def read_tokenizer_file(path: Path) -> dict[str, Any]:
    """Read and check the envelope of a tokenizer file.

    Raises:
        UserError: the file is missing, damaged, no tokenizer, or from a newer glassgpt.
    """
    data = read_json(path, "a glassgpt tokenizer")
    if data.pop("format", None) != FORMAT:
        is_other = "model" in data and "added_tokens" in data
        fix = f"; to use it, glassgpt tokenizer import {quote(str(path))} --out FILE" if is_other else ""
        raise UserError(f"{path}: not a glassgpt tokenizer (no format {FORMAT!r} in it){fix}")
    version = data.pop("version", None)
    if type(version) is not int or version < 1:
        raise UserError(f"{path}: damaged tokenizer file: version is {show(version)}")
    if version > VERSION:
        raise UserError(
            f"{path}: written by a newer glassgpt (format {show(version)}, this one reads {VERSION}); update it"
        )
    return data
