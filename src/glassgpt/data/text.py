"""A text, wherever it is: read once to know what there is, and as often as needed after that."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from glassgpt.data.blocks import SplitPiece, split_pieces
from glassgpt.data.config import DataConfig
from glassgpt.data.progress import progress_bar
from glassgpt.data.sources import Piece, Source, find_sources, read_pieces
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
            UserError: as `find_sources` and `read_pieces`.
        """
        sources = tuple(find_sources(data.source, stdin))
        digest = _Digest()
        characters = size = documents = 0
        with progress_bar("reading", _plain_size(sources)) as progress:
            for begins, text in read_pieces(sources, data.text_field, data.separator):
                encoded = digest.update(begins, text)
                characters, size, documents = characters + len(text), size + encoded, documents + begins
                progress(encoded)
        if not documents:  # each file that was named must hold something; those that were found in a folder need not
            raise UserError(f"{', '.join(data.source)}: all files are empty: there is nothing to learn from")
        return cls(data, sources, characters, size, documents, digest.hexdigest())

    def pieces(self) -> Iterator[Piece]:
        """All documents in order, in pieces.

        Raises:
            UserError: at the end, if it is not what was read first; or as `read_pieces`.
        """
        digest = _Digest()
        for begins, text in read_pieces(self.sources, self.data.text_field, self.data.separator):
            digest.update(begins, text)
            yield begins, text
        if digest.hexdigest() != self.sha256:
            raise UserError(f"{', '.join(self.data.source)}: the text has changed while it was being read: try again")

    def split_pieces(self) -> Iterator[SplitPiece]:
        """The same, training text first; the last `val_fraction` of the characters is for validation."""
        return split_pieces(self.pieces(), self.training_characters)

    @property
    def training_characters(self) -> int:
        """How many characters there are for training."""
        return int(self.characters * (1 - self.data.val_fraction))


class _Digest:
    """The hash of a text as it is read."""

    def __init__(self) -> None:
        self._hash, self._some = hashlib.sha256(), False

    def update(self, begins: bool, text: str) -> int:
        """Take a piece; return its bytes."""
        data = encode_utf8(text)
        self._hash.update(b"\xff" + data if begins and self._some else data)
        self._some = True
        return len(data)

    def hexdigest(self) -> str:
        """Of all that was taken."""
        return self._hash.hexdigest()


def read_text(data: DataConfig, stdin: Path | None = None) -> str:
    """A whole text as one string, for what is small; between documents a newline, where there is none.

    Raises:
        UserError: as `Text.open`.
    """
    text = ""
    for begins, piece in Text.open(data, stdin).pieces():
        text += "\n" + piece if begins and text and not text.endswith("\n") else piece
    return text


def _plain_size(sources: tuple[Source, ...]) -> int | None:
    """The bytes of all files; None where some are packed, so that no one knows before."""
    sizes = [source.plain_size for source in sources]
    return None if None in sizes else sum(size for size in sizes if size is not None)
