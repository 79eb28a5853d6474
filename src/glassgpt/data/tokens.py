"""A folder of tokens: what `glassgpt prepare` writes, and what training and evaluation read through memory maps."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import TypedDict

from glassgpt.data.blocks import SPLITS, Split
from glassgpt.data.corpora import NAMES
from glassgpt.errors import DamagedError, UserError, reason, show
from glassgpt.paths import expand
from glassgpt.reading import checked, read_json, sha256_of
from glassgpt.tokenizers import Tokenizer, load_tokenizer

Count = Annotated[int, Field(ge=0, le=2**62)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
FORMAT, VERSION = "glassgpt-tokens", 1
HEADER, TOKENIZER = "header.json", "tokenizer.json"
CHECKED_BYTES = 2**30  # larger files are checked by their size and by samples alone when they are opened
_CHUNK = 2**22  # ids looked at at once


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


class _Facts(TypedDict):
    """What the header says of a split."""

    tokens: Count
    documents: Count
    characters: Count
    bytes: Count
    unknown_bits: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    tokens_sha256: Sha256
    documents_sha256: Sha256


class _Splits(TypedDict):
    train: _Facts
    val: _Facts


class _Fingerprint(TypedDict):
    fingerprint: str


class _TextFacts(TypedDict):
    """What the header says of the text."""

    sha256: Sha256
    documents: Count
    characters: Count
    bytes: Count


class _Header(TypedDict):
    """What `header.json` must hold; there may be more."""

    dtype: Literal["uint8", "uint16", "uint32"]
    vocab_size: Annotated[int, Field(ge=1, le=2**32)]
    tokenizer: _Fingerprint
    text: _TextFacts
    val_fraction: Annotated[float, Field(ge=0, lt=1)]
    splits: _Splits


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
            raise DamagedError(f"{path / HEADER}: not the header of a prepared text (no format {FORMAT!r} in it)")
        version = self.header.get("version")
        if type(version) is not int or version > VERSION:
            raise UserError(
                f"{path}: prepared by a newer glassgpt (format {show(version)}): update it, or prepare again"
            )
        try:
            header = checked(self.header, _Header)
            _require_agreement(header)
        except ValueError as error:
            raise DamagedError(f"{path / HEADER}: damaged ({reason(error)}): prepare the text again") from None
        self.dtype = np.dtype(header["dtype"]).newbyteorder("<")
        self.sha256 = header["text"]["sha256"]
        self.val_fraction = float(header["val_fraction"])
        self.fingerprint = header["tokenizer"]["fingerprint"]
        self._splits = header["splits"]
        self._vocab_size = header["vocab_size"]
        for split in SPLITS:
            self._check_files(split)

    def _check_files(self, split: Split) -> None:
        """Hold the files against the header, and what is in them against each other.

        Raises:
            DamagedError: they do not fit.
        """
        facts = self._splits[split]
        for kind, count, width, digest in (
            ("tokens", facts["tokens"], self.dtype.itemsize, facts["tokens_sha256"]),
            ("documents", facts["documents"], 8, facts["documents_sha256"]),
        ):
            file = self.path / file_name(split, kind)
            if not file.is_file() or file.stat().st_size != count * width:
                raise DamagedError(f"{file}: missing, or not as long as when it was prepared: prepare the text again")
            if count * width <= CHECKED_BYTES and sha256_of(file) != digest:
                raise DamagedError(f"{file}: damaged (its SHA-256 differs): prepare the text again")
        file = self.path / file_name(split, "tokens")
        largest = _largest(_mapped(file, self.dtype), self._vocab_size)
        if largest >= self._vocab_size:
            raise DamagedError(
                f"{file}: damaged: it holds the id {largest}, but the vocabulary has {self._vocab_size}: "
                "prepare the text again"
            )
        file = self.path / file_name(split, "documents")
        begins = _mapped(file, np.dtype("<u8"))
        rising = not len(begins) or (begins[0] == 0 and begins[-1] < facts["tokens"] and _rises(begins))
        if not rising or bool(len(begins)) != bool(facts["tokens"]):
            raise DamagedError(f"{file}: damaged: documents begin where there are no tokens: prepare the text again")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the text was prepared with.

        Raises:
            UserError: its file is missing, damaged, or another one.
        """
        tokenizer = load_tokenizer(self.path / TOKENIZER)
        self.require(tokenizer, str(self.path / TOKENIZER))
        if tokenizer.vocab_size != self._vocab_size:
            raise DamagedError(
                f"{self.path / HEADER}: damaged (vocab_size {self._vocab_size}, but the tokenizer's is "
                f"{tokenizer.vocab_size}): prepare the text again"
            )
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
        facts = self._splits[name]
        return Tokens(
            ids=_mapped(self.path / file_name(name, "tokens"), self.dtype),
            documents=_mapped(self.path / file_name(name, "documents"), np.dtype("<u8")),
            bytes=facts["bytes"],
            unknown_bits=float(facts["unknown_bits"]),
            tokenizer=self.tokenizer,
        )


def token_type(vocab_size: int) -> np.dtype[Any]:
    """The smallest unsigned integers that hold a vocabulary, little-endian on every machine."""
    return np.min_scalar_type(vocab_size - 1).newbyteorder("<")


def is_token_folder(source: str | Path) -> bool:
    """Whether this is a folder that `glassgpt prepare` made; a corpus's name is that corpus."""
    try:
        return source not in NAMES and (expand(source) / HEADER).is_file()
    except OSError:  # a name too long, a folder that may not be searched: said where it is read as a text
        return False


def file_name(split: Split, what: str) -> str:
    """The name of a file in the folder: `train.tokens.bin`, `val.documents.bin`."""
    return f"{split}.{what}.bin"


def _require_agreement(header: _Header) -> None:
    """Make sure that the totals of a text are those of its two splits.

    Raises:
        ValueError: they are not.
    """
    text, train, val = header["text"], header["splits"]["train"], header["splits"]["val"]
    if token_type(header["vocab_size"]).name != header["dtype"]:
        raise ValueError(f"dtype {header['dtype']} for a vocabulary of {header['vocab_size']}")
    if train["characters"] + val["characters"] != text["characters"] or train["bytes"] + val["bytes"] != text["bytes"]:
        raise ValueError("the splits are not as long as the text")
    if train["documents"] + val["documents"] - text["documents"] not in (0, 1):  # one that the split cuts becomes two
        raise ValueError("the splits do not have the text's documents")


def _largest(ids: NDArray[Any], vocab_size: int) -> int:
    """The largest id, or one that is too large; of a file that is too large to be checked, as far as that is quick."""
    if not len(ids) or vocab_size > np.iinfo(ids.dtype).max:
        return 0
    most = CHECKED_BYTES // ids.dtype.itemsize
    step = max(1, -(-len(ids) // most))  # one chunk in so many
    return max(int(ids[start : start + _CHUNK].max()) for start in range(0, len(ids), _CHUNK * step))


def _rises(begins: NDArray[Any]) -> bool:
    return all(
        bool(np.all(chunk[:-1] < chunk[1:]))
        for start in range(0, len(begins), _CHUNK)
        for chunk in [begins[start : start + _CHUNK + 1]]
    )


def _mapped(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    if path.stat().st_size == 0:  # which cannot be mapped
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")
