"""From a recipe's words to tokens: a folder that was prepared, or texts, prepared once and kept in a cache.

The cache is a folder of glassgpt's own (`GLASSGPT_CACHE` names another one); whatever is in it can be removed.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from errno import EIO
from pathlib import Path

from glassgpt.data.blocks import BLOCK, make_blocks
from glassgpt.data.caches import in_cache
from glassgpt.data.config import DataConfig
from glassgpt.data.corpora import NAMES
from glassgpt.data.decoding import decode_bytes, is_text
from glassgpt.data.prepare import UnwritableError, prepare
from glassgpt.data.progress import progress_bar
from glassgpt.data.sources import STDIN
from glassgpt.data.text import Text
from glassgpt.data.tokens import VERSION, TokenFolder, is_token_folder
from glassgpt.data.unpacking import CHUNK
from glassgpt.errors import DamagedError, UnreadableError, UserError, reason
from glassgpt.files import cache_folder, remove_folder
from glassgpt.parallel import usable_cores
from glassgpt.paths import expand
from glassgpt.tokenizers import Tokenizer, TokenizerConfig, load_tokenizer
from glassgpt.tokenizers.making import DEFAULT_BPE_SIZE, learns, make_tokenizer, safe_cut


def open_tokens(
    data: DataConfig, tokenizer: Tokenizer | TokenizerConfig, *, stdin: Path | None = None, workers: int | None = None
) -> TokenFolder:
    """The tokens that a recipe asks for, prepared now if they have not been before.

    Args:
        data: the text. A folder that `glassgpt prepare` made has its own tokenizer, so that a configuration of one
            does not count then.
        tokenizer: one that is known already, or which to make.
        stdin: the file that holds what came from standard input.
        workers: processes; left out: one a core, where the text is large.

    Raises:
        UserError: a text cannot be read or is not the one that `data` names by its hash, the tokenizer cannot be made,
            or a prepared folder was made with another tokenizer or split.
    """
    if any(map(is_token_folder, data.source)):
        return _open_prepared(data, tokenizer)
    try:
        text = Text.open(data, stdin)
    except DamagedError as error:
        if data.sha256 is None:
            raise
        raise UserError(f"{error}: if the text has been moved, say with --data where it is now") from None
    _check_text(data, text.sha256)
    made = _made_tokenizer(tokenizer, text) if isinstance(tokenizer, TokenizerConfig) else tokenizer
    key = _key(VERSION, BLOCK, text.sha256, made.fingerprint, data.val_fraction)
    return in_cache("tokens", lambda folder: _cached_tokens(folder / key, text, made, workers))


def _cached_tokens(folder: Path, text: Text, tokenizer: Tokenizer, workers: int | None) -> TokenFolder:
    """Tokens that have been prepared before, or are now.

    Raises:
        OSError: they cannot be written.
    """
    if folder.exists():
        try:
            cached = TokenFolder(folder)
            cached.require(cached.tokenizer, str(folder))
            return cached
        except UserError:  # damaged: what is in a cache can be made again
            remove_folder(folder)
    try:
        with progress_bar("preparing", text.bytes) as progress:
            return prepare(text, tokenizer, folder, workers=workers, progress=progress, wait=True)
    except UnwritableError as error:
        raise error.cause from None
    except UnreadableError as error:
        if not str(error).startswith(str(folder.parent)):  # it is the text that cannot be read
            raise
        raise OSError(EIO, str(error)) from None


def learn_tokenizer(config: TokenizerConfig, text: Text, *, workers: int | None = None) -> Tokenizer:
    """Make a tokenizer from a text.

    A char tokenizer takes its characters from all of it, as it could not write the validation text otherwise; the
    others see the training text alone.

    Args:
        config: which.
        text: what it learns from, if it learns.
        workers: processes; left out: one a core, where the text is large.
    """
    if not learns(config):
        return make_tokenizer(config)
    if config.kind == "char":
        text = replace(text, data=text.data.replace(val_fraction=0.0))
    if workers is None:
        workers = usable_cores() if text.bytes > 4 * BLOCK else 1

    def texts() -> Iterator[str]:
        for block in make_blocks(text.split_parts(), safe_cut(config)):
            if block.split == "val":
                return
            yield from block.texts
        if config.kind == "char" and text.documents > 1:
            yield "\n"  # which will stand between documents

    with ExitStack() as stack:
        bars: dict[str, Callable[[int], None]] = {}
        totals = {"characters": text.training_characters, "tokens": config.vocab_size or DEFAULT_BPE_SIZE}

        def progress(what: str, amount: int) -> None:
            if what not in bars:
                stack.close()  # one bar after the other
                title = {"characters": "counting", "tokens": "merging"}[what]
                bars[what] = stack.enter_context(progress_bar(title, totals[what], unit=what))
            bars[what](amount)

        return make_tokenizer(config, texts(), workers=workers, progress=progress)


@contextmanager
def standard_input(names: Sequence[str]) -> Iterator[Path | None]:
    """If - is among the sources, put all of standard input into a file, for as long as the block runs.

    Raises:
        UserError: standard input is a terminal.
    """
    if STDIN not in names:
        yield None
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError("-: standard input is a terminal: pipe a text into it")
    with tempfile.TemporaryDirectory(prefix="glassgpt-") as folder:
        path = Path(folder) / "input.txt"
        try:
            _copy_standard_input(path)
        except OSError as error:
            raise UserError(
                f"standard input cannot be kept in {folder}: {reason(error)}: name another folder in TMPDIR"
            ) from None
        yield path


def _copy_standard_input(path: Path) -> None:
    with path.open("wb") as file:
        while chunk := sys.stdin.buffer.read(CHUNK):
            if file.tell() == 0 and not is_text(chunk):  # rather than fill the disk first
                decode_bytes(chunk, "standard input")
            file.write(chunk)


def _open_prepared(data: DataConfig, tokenizer: Tokenizer | TokenizerConfig) -> TokenFolder:
    if len(data.source) > 1:
        raise UserError(f"{', '.join(data.source)}: a prepared text stands alone: prepare all sources together")
    folder = TokenFolder(expand(data.source[0]))
    _check_text(data, folder.sha256)
    if data.val_fraction != folder.val_fraction:
        raise UserError(
            f"{folder.path}: prepared with a validation share of {folder.val_fraction:g}, but data.val_fraction is "
            f"{data.val_fraction:g}: give --data.val-fraction {folder.val_fraction:g}, or prepare it again"
        )
    if isinstance(tokenizer, Tokenizer):
        folder.require(tokenizer, "the run's")
    return folder


def _made_tokenizer(config: TokenizerConfig, text: Text) -> Tokenizer:
    """A tokenizer by its configuration; what was learned from the same text before is taken from the cache."""
    if not learns(config) or config.kind == "char":  # characters are found as fast as a file is
        return learn_tokenizer(config, text)
    asked = config.model_dump(exclude={"fingerprint"})
    name = f"{_key(asked, text.sha256, text.data.val_fraction)}.json"
    with suppress(UserError, OSError):  # not there, damaged, or no cache
        return load_tokenizer(cache_folder() / "tokenizers" / name)
    tokenizer = learn_tokenizer(config, text)
    in_cache("tokenizers", lambda folder: tokenizer.save(folder / name))
    return tokenizer


def _check_text(data: DataConfig, sha256: str) -> None:
    if data.sha256 is not None and data.sha256 != sha256:
        folder = next((name for name in data.source if name not in NAMES and expand(name).is_dir()), None)
        also = ""
        if folder is not None:
            also = (
                "; files may have been added to the folder or changed, and an older glassgpt took other ones: "
                f"to choose, give patterns such as --data '{folder}/**/*.txt'"
            )
        raise UserError(
            f"the text ({', '.join(data.source)}) is not the one that the recipe was made with (its SHA-256 differs): "
            f"bring back the old text, or begin a new run with it as --data{also}"
        )


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("ascii")).hexdigest()[:32]
