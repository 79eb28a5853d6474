"""Text into a folder of tokens: streamed, in parallel, whole or not at all, and picked up where it was interrupted."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassgpt.data.blocks import BLOCK, SPLITS, Block, Split, make_blocks
from glassgpt.data.text import Text
from glassgpt.data.tokens import FORMAT, HEADER, TOKENIZER, VERSION, TokenFolder, file_name, file_sha256, token_type
from glassgpt.errors import UserError
from glassgpt.files import FileLockedError, holding, sync_file, sync_folder, write_json
from glassgpt.parallel import WorkerKilledError, ordered_map, require_main_process, usable_cores
from glassgpt.tokenizers import Tokenizer
from glassgpt.tokenizers.utf8 import encode_utf8

FILES = ("tokens", "documents")  # a file of each for each split
JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Encoded:
    """A block in tokens; `documents` are where documents begin, counted from the block's first token."""

    split: Split
    ids: NDArray[np.unsignedinteger[Any]]
    documents: NDArray[np.uint64]
    characters: int
    bytes: int
    unknown_bits: float


def encode_block(tokenizer: Tokenizer, block: Block) -> Encoded:
    """The tokens of a block.

    Before each document but a split's first comes `<|endoftext|>`; a tokenizer without it, such as char, gets a newline
    where there is none.
    """
    ids: list[int] = []
    documents: list[int] = []
    characters = size = 0
    unknown_bits = 0.0
    for segment in block.segments:
        if segment.begins and not segment.first:
            if tokenizer.end_of_text is not None:
                ids.append(tokenizer.end_of_text)
            elif not segment.after_line:
                ids += tokenizer.encode("\n")
        if segment.begins:
            documents.append(len(ids))
        ids += tokenizer.encode(segment.text)
        characters += len(segment.text)
        size += len(encode_utf8(segment.text))
        unknown_bits += tokenizer.unknown_bits(segment.text)
    array = np.asarray(ids, dtype=token_type(tokenizer.vocab_size))
    return Encoded(block.split, array, np.asarray(documents, dtype="<u8"), characters, size, unknown_bits)


def prepare(
    text: Text,
    tokenizer: Tokenizer,
    out: Path,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    wait: bool = False,
) -> TokenFolder:
    """Write a folder of tokens.

    The work is done in a folder beside `out`, block after block, with a journal; `out` appears when all is done. If it
    is interrupted, the same call goes on after the last block, and the files are the same to the bit.

    Args:
        text: what to read.
        tokenizer: how text becomes tokens.
        out: the folder to make; must not be there, or be empty.
        workers: processes; left out: one a core, or one where the text is small. It changes nothing else.
        progress: called with the number of bytes of each block that is done.
        wait: if another process is preparing the same, wait for it, instead of refusing.

    Raises:
        UserError: a character is not in the tokenizer's vocabulary, the text has changed, or `out` is taken.
    """
    require_main_process()
    out = out.resolve()
    if not wait:
        check_free(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with holding(out.with_name(f".{out.name}.lock"), wait=wait):
            if not (wait and (out / HEADER).exists()):  # else another process has just finished it
                _encode_all(text, tokenizer, out, workers, progress)
        return TokenFolder(out)
    except FileLockedError:
        raise UserError(f"{out}: another process is preparing it") from None
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written: {error.strerror or error}: once that is mended, the same call goes on"
        ) from None


def _encode_all(
    text: Text, tokenizer: Tokenizer, out: Path, workers: int | None, progress: Callable[[int], None] | None
) -> None:
    work = out.with_name(f".{out.name}.partial")
    job = _Job(work, tokenizer, text)
    blocks = make_blocks(text.split_pieces(), tokenizer.safe_cut, BLOCK)
    if workers is None:
        workers = usable_cores() if text.bytes > 2 * BLOCK else 1
    if progress:
        progress(job.bytes_done)
    try:
        for encoded in ordered_map(partial(encode_block, tokenizer), islice(blocks, job.blocks_done, None), workers):
            job.append(encoded)
            if progress:
                progress(encoded.bytes)
    except (UserError, OSError) as error:  # nothing half-written; but what took long is kept, to go on from
        if not job.blocks_done and not isinstance(error, WorkerKilledError):
            shutil.rmtree(work, ignore_errors=True)
        raise
    job.finish()
    _publish(work, out)


def check_free(out: Path) -> None:
    """Make sure that a folder may be made here.

    Raises:
        UserError: something is there already.
    """
    if (out / HEADER).exists():
        raise UserError(f"{out}: holds a prepared text already: remove it, or choose another with --out")
    if out.is_mount():
        raise UserError(f"{out}: a mount point, which cannot be replaced: name a new folder within it with --out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not an empty folder: choose another with --out")


class _Job:
    """The files under way, and the journal that says up to where they are good."""

    def __init__(self, work: Path, tokenizer: Tokenizer, text: Text):
        self.work, self.tokenizer, self.text = work, tokenizer, text
        self.key = {
            "format": FORMAT,
            "version": VERSION,
            "sha256": text.sha256,
            "tokenizer": tokenizer.fingerprint,
            "val_fraction": text.data.val_fraction,
            "block": BLOCK,
        }
        if not self._go_on():
            self._begin()

    @property
    def bytes_done(self) -> int:
        return int(sum(totals["bytes"] for totals in self.totals.values()))

    def _begin(self) -> None:
        self.blocks_done, self.totals = 0, _no_totals()
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        for split in SPLITS:
            for kind in FILES:
                (self.work / file_name(split, kind)).touch()
        self.tokenizer.save(self.work / TOKENIZER)
        self._note(self.key)

    def _go_on(self) -> bool:
        """Take up the journal that is there, if it is of the same job; what is behind its last line is cut off."""
        journal = self.work / JOURNAL
        try:
            lines = journal.read_text(encoding="utf-8").split("\n")[:-1]  # one that was cut short has no newline
            key, *done = [json.loads(line) for line in lines]
            if key != self.key:
                return False
            self.blocks_done, self.totals = len(done), done[-1] if done else _no_totals()
            for split in SPLITS:
                for kind in FILES:
                    path, length = self.work / file_name(split, kind), self._length(split, kind)
                    if path.stat().st_size < length:
                        return False
                    os.truncate(path, length)
        except (OSError, ValueError, KeyError, TypeError):
            return False
        whole = "".join(line + "\n" for line in lines).encode("utf-8")
        os.truncate(journal, len(whole))
        return True

    def _length(self, split: Split, kind: str) -> int:
        width = 8 if kind == "documents" else token_type(self.tokenizer.vocab_size).itemsize
        return int(self.totals[split][kind]) * width

    def append(self, encoded: Encoded) -> None:
        """Write a block, and then that it is written."""
        totals = self.totals[encoded.split]
        self._write(encoded.split, "tokens", encoded.ids)
        self._write(encoded.split, "documents", encoded.documents + np.uint64(totals["tokens"]))
        totals["tokens"] += len(encoded.ids)
        totals["documents"] += len(encoded.documents)
        totals["characters"] += encoded.characters
        totals["bytes"] += encoded.bytes
        totals["unknown_bits"] += encoded.unknown_bits
        self.blocks_done += 1
        self._note(self.totals)

    def _write(self, split: Split, kind: str, array: NDArray[Any]) -> None:
        if len(array):
            with (self.work / file_name(split, kind)).open("ab") as file:
                file.write(array.tobytes())
                file.flush()
                os.fsync(file.fileno())

    def _note(self, value: Any) -> None:
        with (self.work / JOURNAL).open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(value) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Write the header."""
        text = self.text
        splits: dict[str, dict[str, Any]] = {}
        for split in SPLITS:
            hashes = {f"{kind}_sha256": file_sha256(self.work / file_name(split, kind)) for kind in FILES}
            splits[split] = {**self.totals[split], **hashes}
        write_json(
            self.work / HEADER,
            {
                "format": FORMAT,
                "version": VERSION,
                "dtype": token_type(self.tokenizer.vocab_size).name,
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


def _publish(work: Path, out: Path) -> None:
    """Give the finished folder its name."""
    (work / JOURNAL).unlink()
    for file in work.iterdir():
        sync_file(file)
    if out.exists():
        out.rmdir()  # empty, as was made sure at the beginning
    work.rename(out)
    sync_folder(out.parent)


def _no_totals() -> dict[Split, dict[str, float]]:
    return {split: {"tokens": 0, "documents": 0, "characters": 0, "bytes": 0, "unknown_bits": 0.0} for split in SPLITS}
