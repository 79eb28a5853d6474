"""Text into a folder of tokens: streamed, in parallel, whole or not at all, and picked up where it was interrupted."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from glassgpt.data.blocks import BLOCK, Block, make_blocks
from glassgpt.data.journal import JOURNAL, Encoded, Job
from glassgpt.data.text import Text
from glassgpt.data.tokens import HEADER, TokenFolder, token_type
from glassgpt.errors import DamagedError, UserError, reason
from glassgpt.files import discard, sync_file, sync_folder
from glassgpt.locks import FileLockedError, holding
from glassgpt.parallel import WorkerKilledError, ordered_map, require_main_process, usable_cores
from glassgpt.paths import expand, require_text
from glassgpt.tokenizers import Tokenizer
from glassgpt.tokenizers.utf8 import encode_utf8


class UnwritableError(UserError):
    """The folder cannot be written: a disk is full, a file system read-only, a call refused.

    Attributes:
        cause: what the operating system said.
    """

    def __init__(self, message: str, cause: OSError):
        super().__init__(message)
        self.cause = cause


def encode_block(tokenizer: Tokenizer, block: Block) -> Encoded:
    """The tokens of a block.

    Before each document but a split's first comes `<|endoftext|>`; a tokenizer without it, such as char, gets a newline
    where there is none.
    """
    ids: list[int] = []
    documents: list[int] = []
    encode, end = tokenizer.encode, tokenizer.end_of_text
    begins, first, after_line = block.begins, block.first, block.after_line
    for text in block.texts:
        if begins:
            if end is not None:
                if not first:
                    ids.append(end)
            elif not first and not after_line:
                ids += encode("\n")
            documents.append(len(ids))
        ids += encode(text)
        begins, first, after_line = True, False, end is None and text.endswith("\n")
    array = np.asarray(ids, dtype=token_type(tokenizer.vocab_size))
    unknown_bits = 0.0
    # Most kinds have no unknown-token, and need not be asked about each text.
    if tokenizer.special_tokens and type(tokenizer).unknown_bits is not Tokenizer.unknown_bits:
        unknown_bits = sum(map(tokenizer.unknown_bits, block.texts), 0.0)
    size = len(encode_utf8("".join(block.texts)))
    return Encoded(block.split, array, np.asarray(documents, dtype="<u8"), block.characters, size, unknown_bits)


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
    require_text(out, "choose another name with --out")
    if not text.training_characters:
        raise UserError(_too_short(text))
    out = _resolved(out)
    try:
        if not wait:
            check_free(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        with holding(_lock(out), wait=wait):
            if wait and (out / HEADER).exists():  # another process has just finished it
                return TokenFolder(out)
            return _encode_all(text, tokenizer, out, workers, progress)
    except FileLockedError:
        raise UserError(f"{out}: another process is preparing it") from None
    except OSError as error:
        raise UnwritableError(
            f"{out}: cannot be written: {reason(error)}: fix this, then run the same command again to resume", error
        ) from None


def _resolved(out: Path) -> Path:
    try:
        return expand(out).resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise UserError(f"{out}: {reason(error)}: choose another with --out") from None


def _lock(out: Path) -> Path:
    return out.with_name(f".{out.name}.lock")


def _too_short(text: Text) -> str:
    some = f"{text.characters} character{'s' * (text.characters > 1)}"
    return (
        f"{', '.join(text.data.source)}: too short: it has {some}, and {text.data.val_fraction:.0%} are kept for "
        "validation, which leaves none to learn from: take more text"
    )


def _encode_all(
    text: Text, tokenizer: Tokenizer, out: Path, workers: int | None, progress: Callable[[int], None] | None
) -> TokenFolder:
    work = out.with_name(f".{out.name}.partial")
    job = Job(work, tokenizer, text, BLOCK)
    blocks = make_blocks(text.split_parts(), tokenizer.safe_cut, BLOCK)
    if job.blocks_done and not job.fits(islice(blocks, job.blocks_done)):
        job.begin()
        blocks = make_blocks(text.split_parts(), tokenizer.safe_cut, BLOCK)
    if workers is None:
        workers = usable_cores() if text.bytes > 2 * BLOCK else 1
    if progress:
        progress(job.bytes_done)
    try:
        for encoded in ordered_map(partial(encode_block, tokenizer), blocks, workers):
            job.append(encoded)
            if progress:
                progress(encoded.bytes)
        job.finish()
        return _publish(work, out)
    except (UserError, OSError) as error:  # nothing half-written; but what took long is kept, to go on from
        if not job.blocks_done and not isinstance(error, WorkerKilledError):
            discard(work)
        raise


def check_free(out: Path) -> None:
    """Make sure that a folder may be made here.

    Raises:
        UserError: something is there already.
    """
    if (out / HEADER).exists():
        with suppress(OSError, FileLockedError):  # a call that was killed just before its end may have left its lock
            if _lock(out).exists():
                with holding(_lock(out)):
                    pass
        raise UserError(f"{out}: holds a prepared text already: remove it, or choose another with --out")
    if out.is_mount():
        raise UserError(f"{out}: a mount point, which cannot be replaced: name a new folder within it with --out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not an empty folder: choose another with --out")


def _publish(work: Path, out: Path) -> TokenFolder:
    """Give the finished folder its name, once it has been made sure that it can be opened.

    Raises:
        UserError: its files have changed since they were written.
    """
    try:
        folder = TokenFolder(work)
    except DamagedError as error:
        discard(work)
        raise UserError(f"{out}: damaged while it was written ({error}): run the same command again") from None
    (work / JOURNAL).unlink()
    for file in work.iterdir():
        sync_file(file)
    if out.exists():
        out.rmdir()  # empty, as was made sure at the beginning
    work.rename(out)
    sync_folder(out.parent)
    folder.path = out
    return folder
