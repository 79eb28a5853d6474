"""A folder of tokens: what `glassgpt prepare` writes, and what training and evaluation read through memory maps."""

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassgpt.data.blocks import SPLITS, Split
from glassgpt.errors import UserError
from glassgpt.reading import read_json
from glassgpt.tokenizers import Tokenizer, load_tokenizer

FORMAT, VERSION = "glassgpt-tokens", 1
HEADER, TOKENIZER = "header.json", "tokenizer.json"
CHECKED_BYTES = 2**30  # larger files are checked by their size alone when they are opened


@dataclass(frozen=True)
class Measure:
    """What turns a loss per token into bits per byte of text.

    Attributes:
        tokens: how many are predicted.
        bytes: of the original text, that these tokens stand for; `<|endoftext|>` stands for none.
        unknown_bits: what spelling out the unknown-tokens takes besides: see `Tokenizer.unknown_bits`.
    """

    tokens: int
    bytes: int
    unknown_bits: float = 0.0

    def bits_per_byte(self, loss: float) -> float:
        """From nats per token; of these tokens, or of a fair sample of them."""
        return (loss * self.tokens / math.log(2) + self.unknown_bits) / max(1, self.bytes)


@dataclass(frozen=True)
class Tokens:
    """One split in tokens.

    Attributes:
        ids: memory-mapped, in the smallest unsigned integers that hold the vocabulary.
        documents: where each document begins, (documents,) uint64.
        bytes: of its text.
        unknown_bits: see `Measure`.
        tokenizer: what the ids mean.
    """

    ids: NDArray[np.unsignedinteger[Any]]
    documents: NDArray[np.uint64]
    bytes: int
    unknown_bits: float
    tokenizer: Tokenizer

    @property
    def bytes_per_token(self) -> float:
        """How much text a token stands for, on average."""
        return self.bytes / max(1, len(self.ids))

    def measure(self, *, within_documents: bool = False) -> Measure:
        """Of all tokens but the first (of each document, if windows do not cross them), which nothing predicts.

        A first one that is unknown counts all the same, since its bytes are paid for by spelling them out.
        """
        unpredicted = self.ids[self.documents] if within_documents else self.ids[:1]
        special = set(self.tokenizer.special_tokens.values())
        kinds, counts = np.unique(unpredicted, return_counts=True)
        free = sum(
            len(self.tokenizer.token_bytes(token)) * count
            for token, count in zip(kinds.tolist(), counts.tolist(), strict=True)
            if token not in special
        )
        return Measure(len(self.ids) - len(unpredicted), self.bytes - free, self.unknown_bits)


class TokenFolder:
    """A prepared text, made sure to be whole.

    Attributes:
        path: the folder.
        header: what is in it, as JSON data.

    Raises:
        UserError: it is no such folder, damaged, or from a newer glassgpt.
    """

    def __init__(self, path: Path):
        self.path = path
        self.header = read_json(path / HEADER, "the header of a prepared text")
        if self.header.get("format") != FORMAT:
            raise UserError(f"{path / HEADER}: not the header of a prepared text (no format {FORMAT!r} in it)")
        version = self.header.get("version")
        if not isinstance(version, int) or version > VERSION:
            raise UserError(f"{path}: prepared by a newer glassgpt (format {version}): update it, or prepare again")
        try:
            self._check()
        except UserError:  # which is a ValueError, too, and says enough
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path / HEADER}: damaged ({error!r}): prepare the text again") from None

    def _check(self) -> None:
        self.dtype = np.dtype(self.header["dtype"]).newbyteorder("<")
        self.sha256 = str(self.header["text"]["sha256"])
        self.val_fraction = float(self.header["val_fraction"])
        self.fingerprint = str(self.header["tokenizer"]["fingerprint"])
        if self.dtype.kind != "u":
            raise ValueError(f"dtype {self.header['dtype']!r}")
        for split in SPLITS:
            facts = self.header["splits"][split]
            int(facts["bytes"]), float(facts["unknown_bits"])
            for name, count, width in (
                ("tokens", facts["tokens"], self.dtype.itemsize),
                ("documents", facts["documents"], 8),
            ):
                file = self.path / file_name(split, name)
                if not file.is_file() or file.stat().st_size != count * width:
                    raise UserError(f"{file}: missing, or not as long as when it was prepared: prepare the text again")
                if count * width <= CHECKED_BYTES and file_sha256(file) != facts[f"{name}_sha256"]:
                    raise UserError(f"{file}: damaged (its SHA-256 differs): prepare the text again")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the text was prepared with.

        Raises:
            UserError: its file is missing, damaged, or another one.
        """
        tokenizer = load_tokenizer(self.path / TOKENIZER)
        self.require(tokenizer, str(self.path / TOKENIZER))
        return tokenizer

    def require(self, tokenizer: Tokenizer, name: str) -> None:
        """Make sure that the ids mean what a tokenizer says.

        Raises:
            UserError: the text was prepared with another.
        """
        if tokenizer.fingerprint != self.fingerprint:
            raise UserError(
                f"{self.path}: prepared with another tokenizer (fingerprint {self.fingerprint}) than {name} "
                f"({tokenizer.fingerprint}): prepare the text with that one"
            )

    def split(self, name: Split) -> Tokens:
        """The training or the validation text."""
        facts = self.header["splits"][name]
        return Tokens(
            ids=_mapped(self.path / file_name(name, "tokens"), self.dtype),
            documents=_mapped(self.path / file_name(name, "documents"), np.dtype("<u8")),
            bytes=int(facts["bytes"]),
            unknown_bits=float(facts["unknown_bits"]),
            tokenizer=self.tokenizer,
        )


def token_type(vocab_size: int) -> np.dtype[Any]:
    """The smallest unsigned integers that hold a vocabulary, little-endian on every machine."""
    return np.min_scalar_type(vocab_size - 1).newbyteorder("<")


def is_token_folder(source: str | Path) -> bool:
    """Whether this is a folder that `glassgpt prepare` made."""
    return (Path(source).expanduser() / HEADER).is_file()


def file_name(split: Split, what: str) -> str:
    """The name of a file in the folder: `train.tokens.bin`, `val.documents.bin`."""
    return f"{split}.{what}.bin"


def file_sha256(path: Path) -> str:
    """The hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mapped(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    if path.stat().st_size == 0:  # which cannot be mapped
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")
