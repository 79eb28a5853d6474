"""glassgpt prepare"""

import sys
from shlex import quote

from glassgpt.cli.options import FilePath, Source, WholeNumber
from glassgpt.errors import UserError
from glassgpt.paths import expand, require_text


def prepare(
    *sources: Source,
    out: FilePath,
    tokenizer: str = "gpt2",
    vocab_size: WholeNumber | None = None,
    val_fraction: float = 0.1,
    text_field: str = "text",
    separator: str | None = None,
    workers: WholeNumber | None = None,
) -> None:
    """Turn texts of any size into a folder of tokens to train on.

    It streams, works in several processes, and goes on where it was when it is interrupted and called again. Train on
    the folder with `glassgpt train --data DIR`.

    Parameters
    ----------
    sources
        Corpora by name, files, folders, patterns such as 'texts/*.jsonl', or - for standard input. Text files, .jsonl
        and .parquet (a document a row); .gz and .zst are unpacked.
    out
        The folder to make.
    tokenizer
        A file made by `glassgpt tokenizer train`, or gpt2, byte, char, word or bpe; the last three learn from the
        sources first.
    vocab_size
        With bpe: how many entries [4096]; with word: the most entries [all].
    val_fraction
        Share of the characters, at the end, that is kept for validation.
    text_field
        Which field of .jsonl and .parquet holds the text.
    separator
        What stands between the documents of a text file, such as '<|endoftext|>'; it is no text itself. '\\n' is a
        newline.
    workers
        Processes. Left out: one a core.
    """
    import time

    from glassgpt.data.config import DataConfig
    from glassgpt.data.corpora import NAMES
    from glassgpt.data.decoding import unescaped
    from glassgpt.data.opening import learn_tokenizer, standard_input
    from glassgpt.data.prepare import check_free
    from glassgpt.data.prepare import prepare as prepare_tokens
    from glassgpt.data.progress import progress_bar
    from glassgpt.data.text import Text
    from glassgpt.tokenizers import TokenizerConfig, named_tokenizer

    if not sources:
        raise UserError("prepare: name a text: a file, a folder, a corpus, or -")
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: at least 1")
    if vocab_size is not None and tokenizer not in ("word", "bpe"):
        raise UserError(f"--vocab-size: only for --tokenizer word or bpe, not {tokenizer}")
    data = DataConfig.parse(
        {
            "source": sources,
            "val_fraction": val_fraction,
            "text_field": text_field,
            "separator": separator and unescaped(separator),
        },
        "prepare",
    )
    require_text(out, "choose another name with --out")
    out = expand(out)
    check_free(out)
    began = time.perf_counter()
    with standard_input(data.source) as stdin:
        text = Text.open(data, stdin)
        if tokenizer in ("char", "word", "bpe"):
            config = TokenizerConfig.parse({"kind": tokenizer, "vocab_size": vocab_size}, "prepare")
            made = learn_tokenizer(config, text, workers=workers)
        else:
            made = named_tokenizer(tokenizer)
        try:
            with progress_bar("preparing", text.bytes) as progress:
                folder = prepare_tokens(text, made, out, workers=workers, progress=progress)
        except KeyboardInterrupt:
            print("stopped: the same command goes on from here", file=sys.stderr)
            raise
    seconds = time.perf_counter() - began
    print(
        f"{text.bytes:,} bytes in {text.documents:,} {'document' if text.documents == 1 else 'documents'}, "
        f"{seconds:.1f} s ({text.bytes / seconds / 1e6:.1f} MB/s)"
    )
    for split in ("train", "val"):
        tokens = folder.header["splits"][split]
        if tokens["tokens"]:
            print(f"{split:5}  {tokens['tokens']:>14,} tokens  {tokens['bytes'] / tokens['tokens']:.3f} bytes/token")
    name = f"./{out}" if str(out) in NAMES else str(out)  # the name alone is the corpus
    print(f"train on it:\n  glassgpt train --data {quote(name)}")
