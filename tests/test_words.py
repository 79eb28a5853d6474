"""How text is cut: into words, which are tokens, and into pieces, in which byte pairs merge."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from glassgpt.data.corpora import python_reference
from glassgpt.errors import UserError
from glassgpt.tokenizers import TokenizerConfig, WordTokenizer, load_tokenizer, make_tokenizer
from glassgpt.tokenizers.pieces import Pieces
from glassgpt.tokenizers.word import cut_words, word_boundary
from tests.test_bpe import GPT4_AT_FIRST, OWN, PUBLISHED, any_text, tricky_text

# Words


@given(any_text | tricky_text)
def test_words_joined_are_the_text(text: str) -> None:
    assert "".join(cut_words(text)) == text


def test_words_and_signs_take_the_space_before_them() -> None:
    assert cut_words("the cat,  don't! \n x_1 (a") == [
        *("the", " cat", ",", " ", " don", "'", "t", "!", " ", "\n", " x_1", " (", "a"),
    ]


@given(any_text | tricky_text)
def test_nothing_is_lost_when_all_words_are_known(text: str) -> None:
    tokenizer = WordTokenizer.from_counts(Counter(cut_words(text)))
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert set(tokenizer.special_tokens.values()).isdisjoint(ids)
    assert tokenizer.unknown_bits(text) == 0


def test_a_word_known_without_its_space_is_spelled_in_two() -> None:
    tokenizer = WordTokenizer(["cat", " ", " dog"])
    assert tokenizer.encode("cat cat dog dog") == [0, 1, 0, 2, 2]
    assert tokenizer.encode("dog") == [tokenizer.special_tokens["<|unk|>"]]  # but not the other way round


def test_the_special_tokens_come_last() -> None:
    tokenizer = WordTokenizer(["cat", "dog"])
    assert tokenizer.words == ["cat", "dog", " "]
    assert tokenizer.vocab_size == 5
    assert tokenizer.special_tokens == {"<|unk|>": 3, "<|endoftext|>": 4}
    assert tokenizer.end_of_text == 4


def test_an_unknown_word_leaves_its_space() -> None:
    tokenizer = WordTokenizer(["cat", " ", "."])
    ids = tokenizer.encode("cat bird.\ncat 漢")
    assert ids == [0, 1, 3, 2, 3, 0, 1, 3]
    assert tokenizer.decode(ids) == "cat <|unk|>.<|unk|>cat <|unk|>"


def test_only_the_most_frequent_words_are_kept() -> None:
    counts = {"b": 5, " c": 9, "a": 5, "rare": 1, "B": 5, "seldom": 2}
    assert WordTokenizer.from_counts(counts).words == [" ", " c", "B", "a", "b", "seldom", "rare"]
    assert WordTokenizer.from_counts(dict(reversed(counts.items()))).words == WordTokenizer.from_counts(counts).words
    assert WordTokenizer.from_counts(counts, min_count=2).words == [" ", " c", "B", "a", "b", "seldom"]
    assert WordTokenizer.from_counts(counts | {" ": 3}, vocab_size=6).words == [" ", " c", "B", "a"]
    for vocab_size in (3, 4, 9, 10, 11):
        assert WordTokenizer.from_counts(counts, vocab_size=vocab_size).vocab_size == min(vocab_size, 9)


def test_made_from_a_configuration() -> None:
    texts = ["to be or not ", "to be"]
    assert make_tokenizer(TokenizerConfig(kind="word"), texts).to_dict()["words"] == [" ", " be", "to"]
    every = make_tokenizer(TokenizerConfig(kind="word", min_count=1, vocab_size=6), texts)
    assert every.to_dict()["words"] == [" ", " be", "to", " not"]


def test_unknown_bits_by_hand() -> None:
    tokenizer = WordTokenizer(["cat", " sat"])
    assert tokenizer.unknown_bits("cat sat cat") == 0
    assert tokenizer.unknown_bits(" bird") == 8 * 4 + 8
    assert tokenizer.unknown_bits("cat é. sat bird bird") == (8 * 2 + 8) + (8 + 8) + 2 * (8 * 4 + 8)


@given(tricky_text, st.sets(st.sampled_from(["a", "s", " s", "é", " 漢", "\n", "as", "!"])))
def test_unknown_bits_pay_for_all_that_the_ids_do_not_say(text: str, words: set[str]) -> None:
    tokenizer = WordTokenizer(sorted(words))
    unknown = tokenizer.special_tokens["<|unk|>"]
    ids = tokenizer.encode(text)
    said = tokenizer.decode_bytes(token for token in ids if token != unknown)
    unsaid = len(text.encode("utf-8", "surrogatepass")) - len(said)
    assert tokenizer.unknown_bits(text) == 8 * (unsaid + ids.count(unknown))


@given(tricky_text)
def test_a_word_boundary_changes_no_word(text: str) -> None:
    place = word_boundary(text)
    assert 0 <= place <= len(text)
    assert cut_words(text[:place]) + cut_words(text[place:]) == cut_words(text)
    assert WordTokenizer([]).safe_cut(text) == place


@pytest.mark.parametrize("words", [["a", "a"], ["two words"], ["a "], ["  "], ["don't"], [""]])
def test_what_is_not_one_word_once_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"not one word|comes twice"):
        WordTokenizer(words)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "newer glassgpt"),
        ({"extra": 5}, "extra: Extra inputs"),
        ({"words": "ab "}, "words: Input should be a valid list"),
        ({"words": [" ", 5]}, r"words\.1: Input should be a valid string"),
        ({"words": ["a"]}, "no single space"),
        ({"words": [" ", "a", "a"]}, "twice"),
        ({"words": [" ", "a b"]}, "not one word"),
        ({"words": [" ", ""]}, "not one word"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(WordTokenizer(["a"]).to_dict() | change), encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


# Pieces


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", *OWN])
@given(text=any_text | tricky_text)
def test_pieces_joined_are_the_text(pattern: str, text: str) -> None:
    pieces = Pieces(pattern).cut(text)
    assert "".join(pieces) == text
    assert "" not in pieces


@pytest.mark.parametrize("pattern", PUBLISHED)
@given(text=tricky_text)
@example("we'REx IT'Sa 'ſa\n ")
def test_pieces_are_those_of_the_published_pattern(pattern: str, text: str) -> None:
    assert Pieces(pattern).cut(text) == regex.findall(PUBLISHED[pattern], text)


@given(tricky_text)
@example("we'REx IT'Sa 'ſa\n \n  \n\n 1234!!\n\n?")
def test_gpt4s_pieces_are_those_of_the_first_pattern_before_the_end(text: str) -> None:
    assert Pieces("gpt4").cut(text + "x") == regex.findall(GPT4_AT_FIRST, text + "x")


@pytest.mark.parametrize("pattern", OWN)
@given(text=tricky_text)
def test_every_match_is_a_piece(pattern: str, text: str) -> None:
    pieces = Counter(Pieces(pattern).cut(text))
    matches = Counter(match[0] for match in regex.finditer(pattern, text) if match[0])
    assert matches <= pieces


def test_pieces_of_the_published_patterns() -> None:
    text = "It'S 2024 don't  go!!\n\n x"
    assert Pieces("gpt2").cut(text) == [
        *("It", "'", "S", " 2024", " don", "'t", " ", " go", "!!", "\n\n", " x"),
    ]
    assert Pieces("gpt4").cut(text) == ["It", "'S", " ", "202", "4", " don", "'t", " ", " go", "!!\n\n", " x"]


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
@given(text=tricky_text)
def test_a_safe_cut_changes_no_piece(pattern: str, text: str) -> None:
    pieces = Pieces(pattern)
    place = pieces.safe_cut(text)
    assert 0 <= place <= len(text)
    assert pieces.cut(text[:place]) + pieces.cut(text[place:]) == pieces.cut(text)


def test_a_long_text_has_a_safe_cut_near_its_end() -> None:
    text = python_reference()[:10_000]
    assert all(9_000 < Pieces(pattern).safe_cut(text) < 10_000 for pattern in ("gpt2", "gpt4"))
    assert Pieces(r"\w+").safe_cut(text) == 0  # nothing is known of it


@pytest.mark.parametrize(
    "pattern", ["(", "[a", "a{9999999999999}", "*", "a\n(", "(" * 5_000 + ")" * 5_000, r"\N{2d<", r"(?r)\w+|\W"]
)
def test_a_bad_pattern_is_refused_in_one_line(pattern: str) -> None:
    with pytest.raises(UserError, match="nor a pattern") as error:
        Pieces(pattern)
    assert "\n" not in str(error.value)
