"""Characters as tokens: the smallest vocabulary that reads well."""

from collections.abc import Iterable
from typing import Any, ClassVar, Self

from pydantic import ConfigDict
from typing_extensions import TypedDict

from glassgpt.errors import UserError
from glassgpt.reading import checked
from glassgpt.tokenizers.base import Tokenizer, require_text
from glassgpt.tokenizers.utf8 import encode_utf8

UNKNOWN = "<unk>"


class _State(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    characters: str
    unknown: bool


class CharTokenizer(Tokenizer):
    """One id a character, in code point order.

    Args:
        characters: the vocabulary; order and repetition do not matter.
        unknown: give characters outside it the id of `<unk>` (the last one) instead of refusing them.
    """

    kind: ClassVar[str] = "char"

    def __init__(self, characters: Iterable[str], *, unknown: bool = False):
        self.characters = sorted(set(characters))
        if not self.characters:
            raise UserError("a char tokenizer needs at least one character: the text is empty")
        if any(not isinstance(character, str) or len(character) != 1 for character in self.characters):
            raise UserError("a char tokenizer takes single characters")
        self.unknown = unknown
        self._ids = {character: token for token, character in enumerate(self.characters)}
        self._bytes = [encode_utf8(character) for character in self.characters]
        if unknown:
            self._bytes.append(UNKNOWN.encode("ascii"))

    @property
    def vocab_size(self) -> int:
        """The number of distinct characters, and one for `<unk>` if there is one."""
        return len(self._bytes)

    @property
    def special_tokens(self) -> dict[str, int]:
        """`<unk>`, when asked for."""
        return {UNKNOWN: len(self.characters)} if self.unknown else {}

    def encode(self, text: str) -> list[int]:
        """One id a character.

        Raises:
            UserError: a character is not in the vocabulary; the message shows it and where it stands.
        """
        require_text(text)
        if self.unknown:
            unknown_id = len(self.characters)
            return [self._ids.get(character, unknown_id) for character in text]
        try:
            return [self._ids[character] for character in text]
        except KeyError:
            position, character = next((i, c) for i, c in enumerate(text) if c not in self._ids)
            raise UserError(
                f"character {character!r} (U+{ord(character):04X}) at position {position} is not among the "
                f"{len(self.characters)} characters this tokenizer knows: remove it, or train with --tokenizer.unknown"
            ) from None

    def unknown_bits(self, text: str) -> float:
        """8 bits for each byte of each unknown character; UTF-8 says itself where it ends."""
        return float(sum(8 * len(encode_utf8(character)) for character in text if character not in self._ids))

    def token_bytes(self, token: int) -> bytes:
        """The character in UTF-8."""
        return self._bytes[token]

    def state(self) -> dict[str, Any]:
        """The characters as one string, and whether `<unk>` is among the ids."""
        return {"characters": "".join(self.characters), "unknown": self.unknown}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """From the characters, in the order that they were saved in."""
        known = checked(state, _State)
        characters = known["characters"]
        if list(characters) != sorted(set(characters)):
            raise ValueError("the characters are not in order")
        return cls(characters, unknown=known["unknown"])
