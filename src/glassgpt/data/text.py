"""A text, wherever it is: read once to know what there is, and as often as needed after that."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from glassgpt.data.blocks import SplitPart, split_parts
from glassgpt.data.config import DataConfig
from glassgpt.data.documents import read_parts
from glassgpt.data.progress import progress_bar
from glassgpt.data.rows import Part
from glassgpt.data.sources import Source, find_sources
from glassgpt.errors import UserError
from glassgpt.tokenizers.utf8 import encode_utf8


@dataclass(frozen=True)
class Text:
    """All documents of some sources, which may be too large for memory, and what the first reading told of them.

    Attributes:
        data: which, and how much of it is kept for validation.
        sources: the files.
        characters: how many, in all documents together.
        bytes: in UTF-8.
        documents: how many.
        sha256: of the documents' UTF-8; between two of them a byte 0xFF, which UTF-8 does not have.
    """

    data: DataConfig
    sources: tuple[Source, ...]
    characters: int
    bytes: int
    documents: int
    sha256: str

    @classmethod
    def open(cls, data: DataConfig, stdin: Path | None = None) -> Self:
        """Read all of it, so that whatever is wrong is found before anything is written.

        Args:
            data: the sources, and how to read them.
            stdin: the file that holds what came from standard input.

        Raises:
            UserError: as `find_sources` and `read_parts`.
        """
        sources = tuple(find_sources(data.source, stdin))
        digest = _Digest()
        with progress_bar("reading", _plain_size(sources)) as progress:
            for part in read_parts(sources, data.text_field, data.separator):
                progress(digest.update(part))
        if (
            not digest.documents
        ):  # each file that was named must hold something; those that were found in a folder need not
            raise UserError(f"{', '.join(data.source)}: all files are empty: there is nothing to learn from")
        return cls(data, sources, digest.characters, digest.bytes, digest.documents, digest.hexdigest())

    def parts(self) -> Iterator[Part]:
        """All documents in order, about a megabyte at a time.

        Raises:
            UserError: at the end, if it is not what was read first; or as `read_parts`.
        """
        digest = _Digest()
        for part in read_parts(self.sources, self.data.text_field, self.data.separator):
            digest.update(part)
            yield part
        if digest.hexdigest() != self.sha256:
            raise UserError(f"{', '.join(self.data.source)}: the text has changed while it was being read: try again")

    def split_parts(self) -> Iterator[SplitPart]:
        """The same, training text first; the last `val_fraction` of the characters is for validation."""
        return split_parts(self.parts(), self.training_characters)

    @property
    def training_characters(self) -> int:
        """How many characters there are for training."""
        return int(self.characters * (1 - self.data.val_fraction))


class _Digest:
    """The hash and the measures of a text as it is read."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.characters = self.bytes = self.documents = 0

    def update(self, part: Part) -> int:
        """Take a part; return its bytes."""
        begins, texts = part
        joined = "\0".join(texts)  # no other character becomes a zero byte
        if joined.count("\0") == len(texts) - 1:
            data = encode_utf8(joined).replace(b"\0", b"\xff")
        else:
            data = b"\xff".join(map(encode_utf8, texts))
        between = len(texts) - 1
        if begins and self.documents:
            self._hash.update(b"\xff")
        self._hash.update(data)
        self.characters += len(joined) - between
        self.bytes += len(data) - between
        self.documents += between + begins
        return len(data) - between

    def hexdigest(self) -> str:
        """Of all that was taken."""
        return self._hash.hexdigest()


def read_text(data: DataConfig, stdin: Path | None = None) -> str:
    """A whole text as one string, for what is small; between documents a newline, where there is none.

    Raises:
        UserError: as `Text.open`.
    """
    found = [""]
    for begins, texts in Text.open(data, stdin).parts():
        for number, text in enumerate(texts):
            if (begins or number) and found[-1] and not found[-1].endswith("\n"):
                found.append("\n")
            found.append(text)
    return "".join(found)


def _plain_size(sources: tuple[Source, ...]) -> int | None:
    """The bytes of all files; None where some are packed, so that no one knows before."""
    sizes = [source.plain_size for source in sources]
    return None if None in sizes else sum(size for size in sizes if size is not None)
