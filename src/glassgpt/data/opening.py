"""From a recipe's words to tokens: a folder that was prepared, or texts, prepared once and kept in a cache.

The cache is a folder of glassgpt's own (`GLASSGPT_CACHE` names another one); whatever is in it can be removed.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from glassgpt.data.blocks import BLOCK, make_blocks
from glassgpt.data.config import DataConfig
from glassgpt.data.prepare import prepare
from glassgpt.data.progress import progress_bar
from glassgpt.data.sources import STDIN
from glassgpt.data.text import Text
from glassgpt.data.tokens import VERSION, TokenFolder, is_token_folder
from glassgpt.errors import UserError
from glassgpt.files import cache_folder
from glassgpt.parallel import usable_cores
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
    text = Text.open(data, stdin)
    _check_text(data, text.sha256)
    if isinstance(tokenizer, TokenizerConfig):
        tokenizer = _made_tokenizer(tokenizer, text)
    key = _key(VERSION, BLOCK, text.sha256, tokenizer.fingerprint, data.val_fraction)
    folder = cache_folder() / "tokens" / key
    if folder.exists():
        try:
            cached = TokenFolder(folder)
            cached.require(cached.tokenizer, str(folder))
            return cached
        except UserError:  # damaged: what is in a cache can be made again
            shutil.rmtree(folder)
    _make_cache(folder.parent)
    with progress_bar("preparing", text.bytes) as progress:
        return prepare(text, tokenizer, folder, workers=workers, progress=progress, wait=True)


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
        for block in make_blocks(text.split_pieces(), safe_cut(config)):
            if block.split == "val":
                return
            for segment in block.segments:
                yield segment.text
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
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path


def _open_prepared(data: DataConfig, tokenizer: Tokenizer | TokenizerConfig) -> TokenFolder:
    if len(data.source) > 1:
        raise UserError(f"{', '.join(data.source)}: a prepared text stands alone: prepare all sources together")
    folder = TokenFolder(Path(data.source[0]).expanduser())
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
    cached = cache_folder() / "tokenizers" / f"{_key(asked, text.sha256, text.data.val_fraction)}.json"
    try:
        return load_tokenizer(cached)
    except UserError:  # not there, or damaged
        tokenizer = learn_tokenizer(config, text)
    _make_cache(cached.parent)
    tokenizer.save(cached)
    return tokenizer


def _make_cache(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: the cache cannot be written ({error.strerror}): name another folder in GLASSGPT_CACHE"
        ) from None


def _check_text(data: DataConfig, sha256: str) -> None:
    if data.sha256 is not None and data.sha256 != sha256:
        raise UserError(
            f"the text ({', '.join(data.source)}) is not the one that the recipe was made with "
            "(its SHA-256 differs): bring back the old text, or begin a new run with it as --data"
        )


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("ascii")).hexdigest()[:32]
