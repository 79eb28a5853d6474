"""What all kinds of tokenizers have in common; characters and bytes; where GPT-2's files come from."""

import json
import operator
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.errors import UserError
from glassgpt.parallel import ordered_map
from glassgpt.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    TokenizerConfig,
    WordTokenizer,
    gpt2,
    load_tokenizer,
    make_tokenizer,
    named_tokenizer,
)
from glassgpt.tokenizers.bpe import BYTES
from glassgpt.tokenizers.labels import token_label
from tests.test_bpe import gpt2_folder, gpt2_of_ours, gpt2_of_tiktoken

any_text = st.text(st.characters(codec=None))  # lone surrogates too
MERGED = [*BYTES, b"ab", b" a", "é".encode(), "🎉".encode()[:2], "🎉".encode()[:3], "🎉".encode(), b"\xed\xa0"]
EVERY_KIND = {
    "byte": ByteTokenizer(),
    "char": CharTokenizer("ab\n\u2028é🎉\ud800"),
    "char with unk": CharTokenizer("ab", unknown=True),
    "word": WordTokenizer(["ab", " ab", "é", "\n", "🎉", "\ud800"]),
    "bpe": BPETokenizer(MERGED),
    "bpe gpt4": BPETokenizer(MERGED, "gpt4"),
    "bpe own pattern": BPETokenizer(MERGED, r"[^\n]+|\n", ["<|endoftext|>", "<|user|>"]),
    "bpe other ids": BPETokenizer(MERGED, special={"<|a|>": 0, "<|endoftext|>": 97}),
}
every_kind = pytest.mark.parametrize("tokenizer", EVERY_KIND.values(), ids=EVERY_KIND.keys())


@given(any_text)
def test_byte_round_trip_on_any_string(text: str) -> None:
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 <= token < 256 for token in ids)


@given(any_text.filter(bool))
def test_char_round_trip_on_its_own_text(text: str) -> None:
    tokenizer = CharTokenizer(text)
    assert tokenizer.vocab_size == len(set(text))
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(any_text)
def test_byte_ids_are_utf8(text: str) -> None:
    if not any(0xD800 <= ord(character) < 0xE000 for character in text):
        assert bytes(ByteTokenizer().encode(text)) == text.encode("utf-8")


@every_kind
@given(numbers=st.lists(st.integers(0, 10**6)))
def test_streamed_decoding_equals_whole_decoding_on_any_ids(tokenizer: Tokenizer, numbers: list[int]) -> None:
    ids = [number % tokenizer.vocab_size for number in numbers]
    decoder = tokenizer.stream()
    for _ in range(2):  # after `finish` it is as new
        pieces = [decoder.push(token) for token in ids]
        assert "".join(pieces) + decoder.finish() == tokenizer.decode(ids)


@given(st.binary())
def test_decoding_any_bytes_agrees_with_python(data: bytes) -> None:
    if b"\xed" not in data:  # where Python has no lone surrogates to differ about
        assert ByteTokenizer().decode(data) == data.decode("utf-8", "replace")


def test_streaming_holds_a_character_back_until_it_is_whole() -> None:
    decoder = ByteTokenizer().stream()
    assert [decoder.push(byte) for byte in "é🎉".encode()] == ["", "é", "", "", "", "🎉"]


def test_special_token() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.vocab_size == 257
    assert tokenizer.special_tokens == {"<|endoftext|>": 256}
    assert tokenizer.decode([104, 105, 256]) == "hi<|endoftext|>"
    assert 256 not in tokenizer.encode("<|endoftext|>")


def test_unknown_character_is_shown_with_its_position() -> None:
    with pytest.raises(UserError, match=r"'é' \(U\+00E9\) at position 3"):
        CharTokenizer("abc").encode("abcé")


def test_unknown_character_becomes_unk_when_asked_for() -> None:
    tokenizer = CharTokenizer("abc", unknown=True)
    assert tokenizer.encode("azb") == [0, 3, 1]
    assert tokenizer.decode([0, 3, 1]) == "a<unk>b"
    assert tokenizer.vocab_size == 4


def test_the_same_characters_give_the_same_ids_in_any_order() -> None:
    assert CharTokenizer("cabab").encode("abc") == CharTokenizer("abc").encode("abc") == [0, 1, 2]


@every_kind
def test_saved_and_loaded_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    for loaded in (load_tokenizer(tmp_path / "tokenizer.json"), named_tokenizer(str(tmp_path / "tokenizer.json"))):
        assert type(loaded) is type(tokenizer)
        assert loaded.to_dict() == tokenizer.to_dict()
        assert loaded.fingerprint == tokenizer.fingerprint
        assert loaded.special_tokens == tokenizer.special_tokens
        assert loaded.encode("ab") == tokenizer.encode("ab")
        ids = range(tokenizer.vocab_size)
        assert [loaded.token_bytes(token) for token in ids] == [tokenizer.token_bytes(token) for token in ids]


def test_every_kind_goes_to_other_processes() -> None:
    tokenizers = list(EVERY_KIND.values())
    fresh = BPETokenizer(MERGED)
    here = [tokenizer.encode("ab\nab") for tokenizer in tokenizers]
    assert list(ordered_map(operator.methodcaller("encode", "ab\nab"), tokenizers, 2)) == here
    assert [tokenizer.encode("ab\nab") for tokenizer in tokenizers] == here
    assert len(pickle.dumps(EVERY_KIND["bpe"])) == len(pickle.dumps(fresh))  # what encoding has built stays here


def test_fingerprints_differ() -> None:
    others = [
        CharTokenizer("abc"),
        WordTokenizer(["ab"]),
        WordTokenizer(["ab", "é"]),
        WordTokenizer(["é", "ab"]),
        BPETokenizer(MERGED[:-1]),
        BPETokenizer(MERGED, r"\S+|\s"),
        BPETokenizer(MERGED, special=[]),
        BPETokenizer([*BYTES, b" a", b"ab", *MERGED[258:]]),
    ]
    fingerprints = {tokenizer.fingerprint for tokenizer in (*EVERY_KIND.values(), *others)}
    assert len(fingerprints) == len(EVERY_KIND) + len(others)
    assert BPETokenizer(MERGED).fingerprint == EVERY_KIND["bpe"].fingerprint


@every_kind
@given(text=st.text("ab\n"), more=st.text("ab"))
def test_names_of_special_tokens_stand_for_them_only_when_asked(tokenizer: Tokenizer, text: str, more: str) -> None:
    assert tokenizer.encode_special(text) == tokenizer.encode(text)
    for name, token in tokenizer.special_tokens.items():
        assert tokenizer.encode_special(f"{text}{name}{more}") == [
            *tokenizer.encode(text),
            token,
            *tokenizer.encode(more),
        ]


def test_the_longest_of_several_names_counts() -> None:
    tokenizer = BPETokenizer(BYTES, special=["<a", "<a>", "<a>."])
    assert tokenizer.encode_special("<a>.<a><a") == [258, 257, 256]
    assert tokenizer.encode("<a>") == list(b"<a>")


def test_end_of_text() -> None:
    assert [tokenizer.end_of_text for tokenizer in EVERY_KIND.values()] == [256, None, None, 8, 263, 263, 263, 97]


def without(data: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != key}


GOOD = {"format": "glassgpt-tokenizer", "version": 1, "kind": "char", "characters": "ab", "unknown": False}
GOOD_BPE = BPETokenizer([*BYTES, b"ab"]).to_dict()
LATIN = [chr(byte) for byte in range(256)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable"),
        ("[]", "not hold a JSON object"),
        ("{}", "not a glassgpt tokenizer"),
        (json.dumps(GOOD | {"version": 2}), "newer glassgpt"),
        (json.dumps(GOOD | {"version": None}), "damaged"),
        (json.dumps(GOOD | {"kind": "chra"}), "did you mean 'char'"),
        (json.dumps(GOOD | {"characters": "ba"}), "not in order"),
        (json.dumps(GOOD | {"characters": ""}), "at least one"),
        (json.dumps(GOOD | {"characters": 5}), "characters: Input should be a valid string"),
        (json.dumps(GOOD | {"extra": 5}), "damaged"),
        (json.dumps(without(GOOD, "unknown")), "damaged"),
        (json.dumps(GOOD | {"kind": "byte"}), "damaged"),
        (json.dumps(GOOD_BPE | {"version": 2}), "newer glassgpt"),
        *((json.dumps(without(GOOD_BPE, key)), rf"{key}: Field required") for key in ("pattern", "special", "tokens")),
        (json.dumps(GOOD_BPE | {"extra": 5}), "extra: Extra inputs are not permitted"),
        (json.dumps(GOOD_BPE | {"tokens": [*LATIN[1:], "bc", "cd"]}), "single bytes"),
        (json.dumps(GOOD_BPE | {"tokens": [*LATIN, "ab", "ab"]}), "twice"),
        (json.dumps(GOOD_BPE | {"tokens": [*LATIN, "abc", "ab"]}), "not made of two"),
        (json.dumps(GOOD_BPE | {"tokens": [*LATIN, ""]}), "not made of two"),
        (json.dumps(GOOD_BPE | {"tokens": [*LATIN, "a\u0100"]}), "latin-1"),
        (json.dumps(GOOD_BPE | {"tokens": [*LATIN, 5]}), "damaged"),
        (json.dumps(GOOD_BPE | {"tokens": "".join(LATIN)}), "tokens: Input should be a valid list"),
        (json.dumps(GOOD_BPE | {"pattern": 5}), "pattern: Input should be a valid string"),
        (json.dumps(GOOD_BPE | {"pattern": "(\n"}), "neither gpt2 nor gpt4"),
        (json.dumps(GOOD_BPE | {"special": ["<|a|>"]}), "special: Input should be a valid dictionary"),
        *(
            (json.dumps(GOOD_BPE | {"special": {"<|a|>": token}}), "special tokens|special.*valid integer")
            for token in (-1, 258, "257", 257.0, True, 2**70)
        ),
        (json.dumps(GOOD_BPE | {"special": {"<|a|>": 257, "<|b|>": 257}}), "not distinct"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@every_kind
def test_ids_outside_the_vocabulary_are_refused(tokenizer: Tokenizer) -> None:
    for token in (-1, tokenizer.vocab_size):
        with pytest.raises(UserError, match="not in the vocabulary"):
            tokenizer.decode([token])


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_nothing_to_learn_from_is_refused(kind: str) -> None:
    with pytest.raises(UserError, match="empty"):
        make_tokenizer(TokenizerConfig.parse({"kind": kind}), [""])


def test_made_from_configuration() -> None:
    assert make_tokenizer(TokenizerConfig(kind="byte"), "").vocab_size == 257
    assert make_tokenizer(TokenizerConfig(kind="char"), "hello").vocab_size == 4
    learned = make_tokenizer(TokenizerConfig(kind="bpe", vocab_size=258, pattern="gpt4"), ["hello hello"])
    assert (learned.vocab_size, learned.token_bytes(256), learned.to_dict()["pattern"]) == (258, b"el", "gpt4")


def test_made_from_a_file(tmp_path: Path) -> None:
    EVERY_KIND["bpe gpt4"].save(tmp_path / "own.json")
    loaded = make_tokenizer(TokenizerConfig(file=str(tmp_path / "own.json")))
    assert loaded.to_dict() == EVERY_KIND["bpe gpt4"].to_dict()


def test_a_name_that_there_is_not(tmp_path: Path) -> None:
    assert named_tokenizer("byte").kind == "byte"
    with pytest.raises(UserError, match=r"no tokenizer 'gtp2'.*byte or gpt2") as error:
        named_tokenizer("gtp2")
    assert "\n" not in str(error.value)


# GPT-2's files


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No folder of one's own, and nothing kept from before."""
    monkeypatch.delenv("GLASSGPT_DATA", raising=False)
    gpt2._tokens_from_tiktoken.cache_clear()
    yield monkeypatch
    gpt2._tokens_from_tiktoken.cache_clear()


@pytest.mark.parametrize("error", [requests.exceptions.ConnectionError("a\nb"), ValueError("Hash mismatch")])
def test_gpt2_without_a_network_says_what_to_put_where(fetched: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(_: str) -> None:
        raise error

    fetched.setattr(tiktoken, "get_encoding", fail)
    with pytest.raises(UserError, match=r"vocab\.bpe and encoder\.json.*GLASSGPT_DATA") as raised:
        named_tokenizer("gpt2")
    assert "\n" not in str(raised.value)


def test_gpt2_from_tiktoken_is_gpt2_from_its_files(fetched: pytest.MonkeyPatch) -> None:
    fetched.setattr(tiktoken, "get_encoding", {"gpt2": gpt2_of_tiktoken()}.__getitem__)
    assert named_tokenizer("gpt2").fingerprint == gpt2_of_ours().fingerprint


def test_gpt2_from_a_folder_of_ones_own(fetched: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched.setattr(tiktoken, "get_encoding", None)  # not called
    fetched.setenv("GLASSGPT_DATA", str(tmp_path))
    shutil.copy(gpt2_folder() / "vocab.bpe", tmp_path)
    with pytest.raises(UserError, match=r"encoder\.json: no such file"):
        named_tokenizer("gpt2")
    shutil.copy(gpt2_folder() / "encoder.json", tmp_path)
    assert named_tokenizer("gpt2").fingerprint == gpt2_of_ours().fingerprint
    merges = (tmp_path / "vocab.bpe").read_bytes()
    (tmp_path / "vocab.bpe").write_bytes(merges.replace(b"t he\n", b"h et\n", 1))
    with pytest.raises(UserError, match=r"vocab\.bpe: not GPT-2's"):
        named_tokenizer("gpt2")


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (b" the", "·the"),
        (b"\n\t\r", "⏎⇥␍"),
        ("é🎉".encode(), "é🎉"),
        ("é".encode()[:1], r"\xc3"),
        (b"\x00\x1b", r"\x00\x1b"),
        ("\u2028".encode(), r"\u2028"),
        ("\xa0".encode(), r"\u00a0"),  # \xa0 would be a byte
        ("\u0301".encode(), "◌\u0301"),
        ("\ufe0f".encode(), r"\ufe0f"),
        (b"", "∅"),
        (b"<|endoftext|>", "<|endoftext|>"),
    ],
)
def test_labels_show_what_cannot_be_seen(data: bytes, label: str) -> None:
    assert token_label(data) == label


def test_special_tokens_of_ones_own() -> None:
    config = TokenizerConfig.parse({"kind": "bpe", "vocab_size": 270, "special": ["<|user|>", "<|user|>x"]})
    tokenizer = make_tokenizer(config, ["low lower lowest newer"] * 9)
    assert list(tokenizer.special_tokens) == ["<|endoftext|>", "<|user|>", "<|user|>x"]
    assert tokenizer.encode_special("<|user|>x") == [tokenizer.special_tokens["<|user|>x"]]
    assert tokenizer.decode(tokenizer.encode("<|user|>")) == "<|user|>"
    assert max(tokenizer.encode("<|user|>")) < min(tokenizer.special_tokens.values())
    for special in ([""], ["<|endoftext|>"], ["a", "a"]):
        with pytest.raises(UserError, match=r"tokenizer.special|special"):
            TokenizerConfig.parse({"kind": "bpe", "special": special})
