import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.errors import UserError
from glassgpt.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer, TokenizerConfig, load_tokenizer, make_tokenizer

any_text = st.text(st.characters(codec=None))  # lone surrogates too


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


@given(st.lists(st.integers(0, 256)))
def test_streamed_decoding_equals_whole_decoding_on_any_bytes(ids: list[int]) -> None:
    tokenizer = ByteTokenizer()
    decoder = tokenizer.stream()
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


@pytest.mark.parametrize(
    "tokenizer",
    [ByteTokenizer(), CharTokenizer("ab\n\u2028é🎉\ud800"), CharTokenizer("ab", unknown=True)],
    ids=["byte", "char", "char with unk"],
)
def test_saved_and_loaded_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert type(loaded) is type(tokenizer)
    assert loaded.to_dict() == tokenizer.to_dict()
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode("ab") == tokenizer.encode("ab")


def test_fingerprints_differ() -> None:
    tokenizers = [ByteTokenizer(), CharTokenizer("ab"), CharTokenizer("abc"), CharTokenizer("ab", unknown=True)]
    assert len({tokenizer.fingerprint for tokenizer in tokenizers}) == 4


GOOD = {"format": "glassgpt-tokenizer", "version": 1, "kind": "char", "characters": "ab", "unknown": False}


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
        (json.dumps(GOOD | {"characters": 5}), "must be a string"),
        (json.dumps(GOOD | {"extra": 5}), "damaged"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "unknown"}), "damaged"),
        (json.dumps(GOOD | {"kind": "byte"}), "damaged"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_ids_outside_the_vocabulary_are_refused() -> None:
    for token in (-1, 257):
        with pytest.raises(UserError, match="not in the vocabulary"):
            ByteTokenizer().decode([token])


def test_made_from_configuration() -> None:
    assert make_tokenizer(TokenizerConfig(kind="byte"), "").vocab_size == 257
    assert make_tokenizer(TokenizerConfig(kind="char"), "hello").vocab_size == 4
