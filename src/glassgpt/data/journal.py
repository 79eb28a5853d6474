"""Tokenization of a text that can be resumed: the growing files, and a journal of how much of them is valid."""

import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import TypedDict

from glassgpt.data.blocks import SPLITS, Block, Split
from glassgpt.data.text import Text
from glassgpt.data.tokens import FORMAT, HEADER, TOKENIZER, VERSION, Count, file_name, token_type
from glassgpt.errors import UserError
from glassgpt.files import discard, sync, write_json
from glassgpt.reading import checked, open_regular, parse_json, read_bytes, sha256_of
from glassgpt.tokenizers import Tokenizer

FILES = ("tokens", "documents")  # one file of each kind per split
JOURNAL = "journal.jsonl"
_CHUNK = 2**20


class Totals(TypedDict):
    """The totals of a split so far."""

    tokens: Count
    documents: Count
    characters: Count
    bytes: Count
    unknown_bits: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Entry(TypedDict):
    """A line of the journal, written after its block is on the disk.

    Attributes:
        train: totals of the training split.
        val: totals of the validation split.
        crc: CRC-32 of each file, by file name.
        check: hash of this line and the check of the line before, and so of all earlier lines.
    """

    train: Totals
    val: Totals
    crc: dict[str, Count]
    check: str


@dataclass(frozen=True)
class Encoded:
    """A tokenized block; `documents` are the positions where documents begin, relative to the block's first token."""

    split: Split
    ids: NDArray[np.unsignedinteger[Any]]
    documents: NDArray[np.uint64]
    characters: int
    bytes: int
    unknown_bits: float


class Job:
    """The unfinished files of one tokenization. An earlier one is resumed if all its files are valid.

    Args:
        work: folder of the files.
        tokenizer: tokenizer of the text.
        text: text to tokenize.
        block_size: characters per block, which decides where blocks end.

    Attributes:
        blocks_done: number of blocks of the text in the files.
        totals: totals of each split.
    """

    def __init__(self, work: Path, tokenizer: Tokenizer, text: Text, block_size: int):
        self.work, self.tokenizer, self.text = work, tokenizer, text
        self._dtype = token_type(tokenizer.vocab_size)
        self._key = {
            "format": FORMAT,
            "version": VERSION,
            "sha256": text.sha256,
            "tokenizer": tokenizer.fingerprint,
            "val_fraction": text.data.val_fraction,
            "block": block_size,
        }
        try:
            self._resume()
        except (ValueError, OSError):  # if anything is wrong, start over
            self.begin()

    @property
    def bytes_done(self) -> int:
        """The number of bytes of the text that are in the files."""
        return sum(self.totals[split]["bytes"] for split in SPLITS)

    def begin(self) -> None:
        """Remove all files and begin at the first block."""
        self.blocks_done = 0
        self.totals: dict[Split, Totals] = {split: _no_totals() for split in SPLITS}
        self._crc = {file_name(split, kind): 0 for split in SPLITS for kind in FILES}
        with suppress(OSError):  # removes a link or a file; raises in the usual case, a folder or nothing
            self.work.unlink()
        discard(self.work)
        self.work.mkdir(parents=True)
        for name in self._crc:
            (self.work / name).touch()
        self._check = _hash(self._key)
        self._note(self._key)

    def _resume(self) -> None:
        """Resume from the existing journal.

        Raises:
            ValueError: the journal is missing or damaged, belongs to another job, or does not match the files.
            OSError: a file cannot be read or truncated.
        """
        data = read_bytes(self.work / JOURNAL, "a journal")
        whole = data[: data.rfind(b"\n") + 1]  # a line that was cut short has no newline
        first, *rest = whole.decode("utf-8").split("\n")[:-1] or [""]
        if parse_json(first) != self._key:
            raise ValueError("another job")
        entries = [checked(parse_json(line), Entry) for line in rest]
        check = _hash(self._key)
        for entry in entries:
            check = _hash(check, {name: value for name, value in entry.items() if name != "check"})
            if entry["check"] != check:
                raise ValueError("a line has changed, or is missing")
        last: Entry | dict[Split, Totals] = entries[-1] if entries else {split: _no_totals() for split in SPLITS}
        totals: dict[Split, Totals] = {"train": last["train"], "val": last["val"]}
        _require_rising([*entries])
        crc = entries[-1]["crc"] if entries else {}
        lengths = {
            file_name(split, kind): totals[split]["tokens"] * self._dtype.itemsize
            if kind == "tokens"
            else totals[split]["documents"] * 8
            for split in SPLITS
            for kind in FILES
        }
        for name, length in lengths.items():
            if _crc32(self.work / name, length) != crc.get(name, 0):
                raise ValueError(f"{name} is not as it was")
        for name, length in lengths.items():  # only after all checks have passed
            os.truncate(self.work / name, length)
        os.truncate(self.work / JOURNAL, len(whole))
        self.blocks_done, self.totals, self._check = len(entries), totals, check
        self._crc = {name: crc.get(name, 0) for name in lengths}

    def fits(self, blocks: Iterable[Block]) -> bool:
        """Whether the first `blocks_done` blocks of the text, passed here, match the totals in the journal."""
        characters: Counter[str] = Counter()
        number = 0
        for block in blocks:
            characters[block.split] += block.characters
            number += 1
        return number == self.blocks_done and all(
            characters[split] == self.totals[split]["characters"] for split in SPLITS
        )

    def append(self, encoded: Encoded) -> None:
        """Write a block, then its journal entry."""
        totals = self.totals[encoded.split]
        self._write(encoded.split, "tokens", encoded.ids)
        self._write(encoded.split, "documents", encoded.documents + np.uint64(totals["tokens"]))
        totals["tokens"] += len(encoded.ids)
        totals["documents"] += len(encoded.documents)
        totals["characters"] += encoded.characters
        totals["bytes"] += encoded.bytes
        totals["unknown_bits"] += encoded.unknown_bits
        self.blocks_done += 1
        entry = {"train": self.totals["train"], "val": self.totals["val"], "crc": self._crc}
        self._check = _hash(self._check, entry)
        self._note({**entry, "check": self._check})

    def _write(self, split: Split, kind: str, array: NDArray[Any]) -> None:
        if len(array):
            path, data = self.work / file_name(split, kind), array.tobytes()
            with path.open("ab") as file:
                file.write(data)
                file.flush()
                sync(file.fileno(), path)
            self._crc[path.name] = zlib.crc32(data, self._crc[path.name])

    def _note(self, value: Any) -> None:
        path = self.work / JOURNAL
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(value) + "\n")
            file.flush()
            sync(file.fileno(), path)

    def finish(self) -> None:
        """Write the tokenizer and the header."""
        self.tokenizer.save(self.work / TOKENIZER)
        text = self.text
        splits: dict[str, dict[str, Any]] = {}
        for split in SPLITS:
            hashes = {f"{kind}_sha256": sha256_of(self.work / file_name(split, kind)) for kind in FILES}
            splits[split] = {**self.totals[split], **hashes}
        write_json(
            self.work / HEADER,
            {
                "format": FORMAT,
                "version": VERSION,
                "dtype": self._dtype.name,
                "vocab_size": self.tokenizer.vocab_size,
                "tokenizer": {"kind": self.tokenizer.kind, "fingerprint": self.tokenizer.fingerprint},
                "text": {
                    "sources": text.data.source,
                    "sha256": text.sha256,
                    "documents": text.documents,
                    "characters": text.characters,
                    "bytes": text.bytes,
                },
                "val_fraction": text.data.val_fraction,
                "splits": splits,
            },
        )


def _no_totals() -> Totals:
    return {"tokens": 0, "documents": 0, "characters": 0, "bytes": 0, "unknown_bits": 0.0}


def _require_rising(entries: list[Entry]) -> None:
    """Make sure that no total falls from one line to the next.

    Raises:
        ValueError: a total falls.
    """
    for before, after in pairwise(entries):
        for split in SPLITS:
            if any(after[split][name] < count for name, count in before[split].items()):  # type: ignore[literal-required]
                raise ValueError("a total falls")


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("ascii")).hexdigest()[:16]


def _crc32(path: Path, length: int) -> int:
    """The checksum of a file's first `length` bytes.

    Raises:
        UserError: the file is shorter, is not a regular file, or cannot be read.
    """
    crc = 0
    with open_regular(path, "tokens") as file:
        while length:
            data = file.read(min(length, _CHUNK))
            if not data:
                raise UserError(f"{path}: shorter than its journal says")
            crc, length = zlib.crc32(data, crc), length - len(data)
    return crc
