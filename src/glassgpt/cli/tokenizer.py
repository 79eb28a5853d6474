"""glassgpt tokenizer train, encode, decode, info, export, import"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from glassgpt.cli.options import Repeated, Source, Switch, WholeNumber
from glassgpt.errors import UserError, printable, show
from glassgpt.paths import expand

MOST_WORKERS = 256
tokenizer = App(name="tokenizer", help="Make, use and look at tokenizers.", help_flags=["--help", "-h"])

TokenizerName = Annotated[
    str, Parameter(help="A tokenizer file, a folder with one (a run, a prepared text), byte or gpt2.")
]
SAMPLE = "The cats didn't sit on 1,024 mats.\n    They *did* sit on naïve 東京 🎉\n"


@tokenizer.command
def train(
    *sources: Source,
    out: Path,
    kind: Literal["bpe", "word", "char"] = "bpe",
    vocab_size: WholeNumber | None = None,
    pattern: str = "gpt2",
    special: Annotated[list[str] | None, Repeated] = None,
    min_count: WholeNumber = 2,
    unknown: Annotated[bool, Switch] = False,
    text_field: str = "text",
    separator: str | None = None,
    workers: WholeNumber | None = None,
) -> None:
    """Learn a tokenizer from texts.

    Parameters
    ----------
    sources
        Corpora by name, files, folders, patterns such as 'texts/*.jsonl', or - for standard input.
    out
        The file to write.
    kind
        bpe: byte pairs; word: words and signs; char: characters.
    vocab_size
        bpe: how many entries, special ones included [4096]; word: the most entries [all].
    pattern
        bpe: how text is cut before merging: gpt2, gpt4, or a regular expression.
    special
        bpe: a special token beside <|endoftext|>, such as <|user|>. May come several times.
    min_count
        word: words that come less often become <|unk|>.
    unknown
        char: one more entry, for characters that the text does not have.
    text_field
        Which field of .jsonl and .parquet holds the text.
    separator
        What stands between the documents of a text file, such as '<|endoftext|>'; it is no text itself.
    workers
        Processes. Left out: one a core, where the text is large.
    """
    import time

    from glassgpt.data.config import DataConfig
    from glassgpt.data.decoding import unescaped
    from glassgpt.data.opening import learn_tokenizer, standard_input
    from glassgpt.data.text import Text
    from glassgpt.tokenizers import TokenizerConfig

    if not sources:
        raise UserError("tokenizer train: name a text: a file, a folder, a corpus, or -")
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise UserError(f"--workers {show(workers)}: from 1 to {MOST_WORKERS}")
    if kind == "char" and vocab_size is not None:
        raise UserError("--vocab-size: a char tokenizer has all characters of its text: only for bpe and word")
    if kind != "bpe" and (pattern != "gpt2" or special):
        raise UserError(f"--pattern and --special: only for --kind bpe, not {kind}")
    out = _free(out)
    config = TokenizerConfig.parse(
        {
            "kind": kind,
            "vocab_size": vocab_size,
            "pattern": pattern,
            "special": special or [],
            "min_count": min_count,
            "unknown": unknown,
        },
        "tokenizer train",
    )
    began = time.perf_counter()
    data = DataConfig.parse(
        {
            "source": sources,
            "val_fraction": 0.0,
            "text_field": text_field,
            "separator": separator and unescaped(separator),
        },
        "tokenizer train",
    )
    with standard_input(sources) as stdin:
        text = Text.open(data, stdin)
        made = learn_tokenizer(config, text, workers=workers)
    made.save(out)
    print(f"{made.vocab_size:,} entries from {text.bytes:,} bytes in {time.perf_counter() - began:.1f} s: {_name(out)}")
    if vocab_size is not None and made.vocab_size < vocab_size:
        print(f"fewer than {vocab_size:,}: nothing else in the text comes often enough")


@tokenizer.command
def encode(
    file: TokenizerName,
    text: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    special: Annotated[bool, Switch] = False,
) -> None:
    """Print the ids of a text.

    Parameters
    ----------
    text
        Left out: standard input.
    special
        Names of special tokens in the text, such as <|endoftext|>, stand for these tokens.
    """
    from glassgpt.data.decoding import normalised
    from glassgpt.tokenizers import named_tokenizer

    loaded = named_tokenizer(file)
    whole = _stdin_text() if text is None else normalised(text)
    ids = loaded.encode_special(whole) if special else loaded.encode(whole)
    print(*ids)


@tokenizer.command
def decode(file: TokenizerName, /, *ids: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    """Print the text of ids, and nothing else.

    Parameters
    ----------
    ids
        Left out: from standard input.
    """
    from glassgpt.tokenizers import named_tokenizer
    from glassgpt.tokenizers.utf8 import encode_utf8

    loaded = named_tokenizer(file)
    words = list(ids) or _stdin_text().replace(",", " ").split()
    text = loaded.decode(map(_id, words))
    if sys.stdout.isatty():
        text = printable(text)
    sys.stdout.flush()
    sys.stdout.buffer.write(encode_utf8(text))  # newlines as they are, on Windows, too


def _id(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise UserError(f"ids are whole numbers, not {show(word)}") from None


@tokenizer.command
def info(
    file: TokenizerName,
    /,
    *,
    text: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    data: Annotated[list[str] | None, Repeated] = None,
    longest: WholeNumber = 12,
    json_: Annotated[bool, Switch] = False,
) -> None:
    """Show a tokenizer: its vocabulary, how far a token reaches, its longest tokens, and how it cuts a text.

    Parameters
    ----------
    text
        A text to cut. Left out: the beginning of --data, or a sentence.
    data
        A text to count bytes per token on: as for `glassgpt train`.
    longest
        How many of the longest tokens.
    json_
        Print one JSON object.
    """
    import json

    from glassgpt.data.config import DataConfig
    from glassgpt.data.decoding import normalised
    from glassgpt.data.opening import standard_input
    from glassgpt.data.text import read_text
    from glassgpt.tokenizers import named_tokenizer
    from glassgpt.tokenizers.utf8 import encode_utf8

    loaded = named_tokenizer(file)
    facts: dict[str, Any] = {
        "kind": loaded.kind,
        "vocab_size": loaded.vocab_size,
        "special_tokens": loaded.special_tokens,
        "fingerprint": loaded.fingerprint,
        **({"pattern": pattern} if (pattern := getattr(loaded, "pattern", None)) else {}),
    }
    if data:
        with standard_input(data) as stdin:
            whole = read_text(DataConfig.parse({"source": data}, "tokenizer info"), stdin)
        tokens, size = len(loaded.encode(whole)), len(encode_utf8(whole))
        facts |= {"bytes": size, "tokens": tokens, "bytes_per_token": size / max(1, tokens)}
    special = set(loaded.special_tokens.values())
    usual = [token for token in range(loaded.vocab_size) if token not in special]
    usual = [token for token in usual if len(loaded.token_bytes(token)) > 1]
    long = sorted(usual, key=lambda token: (-len(loaded.token_bytes(token)), token))[: max(0, longest)]
    shown = normalised(text or (whole[:400] if data else SAMPLE))
    if json_:
        facts["longest_tokens"] = {token: loaded.decode([token]) for token in long}
        print(json.dumps(facts))
        return
    from rich.console import Console

    from glassgpt.cli.token_picture import print_info

    print_info(Console(), file, loaded, facts, long, shown)


@tokenizer.command
def export(file: TokenizerName, /, *, out: Path) -> None:
    """Write a byte-pair or byte tokenizer as Hugging Face's tokenizer.json.

    Parameters
    ----------
    out
        The file to write.
    """
    from glassgpt.interop.tokenizer_json import save_tokenizer_json
    from glassgpt.tokenizers import named_tokenizer

    out = _free(out)
    save_tokenizer_json(named_tokenizer(file), out)
    print(f"read it with tokenizers.Tokenizer.from_file({str(out)!r})")


@tokenizer.command(name="import")
def import_(file: Path, /, *, out: Path) -> None:
    """Make a tokenizer from Hugging Face's tokenizer.json, if that is byte-level byte-pair encoding.

    Parameters
    ----------
    file
        A tokenizer.json.
    out
        The file to write.
    """
    from glassgpt.interop.tokenizer_json import load_tokenizer_json

    out = _free(out)
    made = load_tokenizer_json(file)
    made.save(out)
    print(f"{made.vocab_size:,} entries: {_name(out)}")


def _free(out: Path) -> Path:
    """Where to write.

    Raises:
        UserError: something is there, or nothing can be there.
    """
    path = expand(out)
    if os.path.lexists(path):
        raise UserError(f"{path}: is there already: remove it, or choose another with --out")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder to write {path.name} into")
    return path


def _name(path: Path) -> str:
    """A file's name for the terminal: it may hold anything."""
    return printable(str(path))


def _stdin_text() -> str:
    from glassgpt.data.decoding import decode_bytes

    if sys.stdin.isatty():
        print("reading standard input; it ends with Ctrl-D (on Windows Ctrl-Z, Enter)", file=sys.stderr, flush=True)
    return decode_bytes(sys.stdin.buffer.read(), "standard input")
