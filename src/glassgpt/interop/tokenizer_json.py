"""`tokenizer.json`, the file of Hugging Face's package `tokenizers` (https://github.com/huggingface/tokenizers).

Both sides merge the pair that comes first. `tokenizers` has a list of the pairs; `BPETokenizer` has the tokens alone,
and any two parts merge that make one up, lowest id first. The ids are the same, since each token is only ever made in
one way: as long as nothing merges across its ends, its bytes merge in the same steps wherever they stand, and these
pass through one state of two parts, so no two other parts of it ever meet. That pair is its merge. A token whose bytes
end in more than one part is never made by merging: it stands for a piece that is just this token, and so it does in
`tokenizers` with `ignore_merges`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from reprlib import repr as short
from typing import Any, TypeVar

import regex

from glassgpt.errors import UserError
from glassgpt.files import write_text
from glassgpt.reading import read_json
from glassgpt.tokenizers import BPETokenizer, ByteTokenizer, Tokenizer
from glassgpt.tokenizers.bpe import BYTES, merge_bytes
from glassgpt.tokenizers.gpt2 import byte_characters
from glassgpt.tokenizers.pieces import PATTERNS, Pieces

T = TypeVar("T")
_CHARACTERS = dict(sorted(byte_characters().items()))
_BYTES = {character: byte for byte, character in _CHARACTERS.items()}
# Patterns as Oniguruma, the engine of `tokenizers`, spells them. There `{1,3}+` is one or more of `{1,3}`, so GPT-4's
# loses its last `+`, which only forbids to give digits back: nothing that comes after could use them.
_WHOLE = r"(?s:.+)"  # no pattern: a text is one piece
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # built in there
_GPT4 = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)
# What Llama 3 and others have for GPT-4's is an older one that cuts white space at the end of a text differently.
_NAMES = {
    _GPT2: "gpt2",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s": "gpt2",
    _GPT4: "gpt4",
}
# What the package regex and Oniguruma read alike. Left out are, among others: ^ and $ (there at every line), \w and \b
# (other letters), braces with + or ? behind them, classes within classes, and in groups of any case i (here İ, too) and
# letters that have a character together (there ss is also ß).
_ESCAPE = r"\\(?:[pP]\{(?:[LMNPSZ][a-z]?|Han)\}|[sSdDrnt]|[^\p{L}\p{N}\s_])"
_SHARED = regex.compile(
    rf"\G(?:{_ESCAPE}|\[\^?+(?!\])(?:{_ESCAPE}|(?!--|&&|\|\||~~)[^\\\[\]])++\]"
    r"|\(\?i:(?!['a-z|\[\]]*(?:ss|st))['a-eghj-z|\[\]]*+\)|\((?:\?(?:[:>=!]|<[=!])|(?!\?))|\)"
    r"|[*+?][?+]?|\{\d++(?:,\d*+)?\}(?![+?])|[^\\\[\](){}^$*+?])"
)


def save_tokenizer_json(tokenizer: Tokenizer, path: Path | str) -> None:
    """Write a tokenizer as `tokenizer.json`: see `to_tokenizer_json`.

    Raises:
        UserError: the tokenizer cannot be exported.
    """
    write_text(Path(path), json.dumps(to_tokenizer_json(tokenizer), indent=2) + "\n")


def to_tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """A tokenizer of bytes as data for `tokenizers`, version 0.20 or later.

    Loaded there, it gives the same ids, with one difference in use: `encode` there always takes the names of special
    tokens in a text for these tokens, as `encode_special` does here. With a pattern of one's own, ids can also differ
    at characters that are too new for the version of Unicode in `tokenizers`.

    Args:
        tokenizer: of the kind `bpe` or `byte`.

    Returns:
        The content of the file, as JSON data.

    Raises:
        UserError: it is of another kind; or its pattern, or the name of a special token, may mean something else there.
    """
    if isinstance(tokenizer, BPETokenizer):
        ranks, pattern = tokenizer.ranks, tokenizer.pattern
    elif isinstance(tokenizer, ByteTokenizer):
        ranks, pattern = {data: data[0] for data in BYTES}, _WHOLE
    else:
        raise UserError(f"a tokenizer of the kind {tokenizer.kind!r} cannot be exported: only bpe and byte can")
    special = dict(sorted(tokenizer.special_tokens.items(), key=lambda item: item[1]))
    vocab = {_to_characters(data): token for data, token in ranks.items()}
    for name in special:
        _check_special_name(name)
        if name in vocab:
            raise UserError(f"the special token {name!r} cannot be exported: a token of bytes is written so, too")
    # They go into the vocabulary as well, since the ids in `added_tokens` alone count for nothing there.
    vocab = dict(sorted({**vocab, **special}.items(), key=lambda item: item[1]))
    merges = dict(_merges(ranks))
    options = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        **dict.fromkeys(("truncation", "padding", "normalizer", "post_processor")),
        "added_tokens": [{"id": n, "content": name, **options, "special": True} for name, n in special.items()],
        "pre_tokenizer": _pre_tokenizer(pattern),
        "decoder": _byte_level(use_regex=True),
        "model": {
            "type": "BPE",
            **dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")),
            **dict.fromkeys(("fuse_unk", "byte_fallback"), False),
            "ignore_merges": len(merges) < len(ranks) - len(BYTES),
            "vocab": vocab,
            "merges": [[_to_characters(left), _to_characters(right)] for left, right in merges.values()],
        },
    }


def load_tokenizer_json(path: Path | str) -> BPETokenizer:
    """Read a tokenizer from a `tokenizer.json`: see `from_tokenizer_json`.

    Raises:
        UserError: the file is missing or damaged, or has what `BPETokenizer` has not.
    """
    try:
        return from_tokenizer_json(read_json(Path(path), "a tokenizer.json"), str(path))
    except RecursionError:
        raise UserError(f"{path}: not readable as a tokenizer.json: nested too deeply") from None


def from_tokenizer_json(data: dict[str, Any], source: str) -> BPETokenizer:
    """The byte-level BPE tokenizer that a `tokenizer.json` describes, with the ids that `tokenizers` gives.

    That is with `add_special_tokens=False`: tokens that its post-processor puts before each text are not taken over,
    nor are truncation and padding. With a regular expression that is not GPT-2's or GPT-4's, ids can differ at
    characters that are too new for the version of Unicode in `tokenizers`.

    Args:
        data: the content of the file, as JSON data.
        source: names the file in error messages.

    Raises:
        UserError: it is damaged, or has anything with which ids could differ; the message says what.
    """
    try:
        return _read(data)
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: cannot be taken over: {error}") from None


def _read(data: dict[str, Any]) -> BPETokenizer:
    model = _field(data, "model", dict, "the file")
    kind = model.get("type", "BPE" if "merges" in model else None)  # the oldest files do without
    if kind != "BPE":
        raise ValueError(f"its model is {short(kind)}, and only BPE can be read")
    for name in ("dropout", "byte_fallback", "end_of_word_suffix", "continuing_subword_prefix"):
        if model.get(name):
            raise ValueError(f"its model has {name} {short(model[name])}, which glassgpt has not")
    if data.get("normalizer") is not None:
        raise ValueError("its normalizer changes the text first, which glassgpt does not")
    _check_post_processor(data.get("post_processor"))
    pattern = _pattern(data.get("pre_tokenizer"))
    vocab = _field(model, "vocab", dict, "the model")
    for name in vocab:
        _field(vocab, name, int, "the vocabulary")
    special = _special(_field(data, "added_tokens", list, "the file"), vocab)
    ranks = {_to_bytes(name): token for name, token in vocab.items() if name not in special}
    ids = sorted([*ranks.values(), *special.values()])
    if (wrong := next((n for n, token in enumerate(ids) if n != token), None)) is not None:
        raise ValueError(f"its ids are not 0, 1, 2 and so on: there is no {wrong}, or one comes twice")
    tokenizer = BPETokenizer(sorted(ranks, key=ranks.__getitem__), pattern, special)
    _check_merges(model, tokenizer.ranks)
    return tokenizer


def _field(part: dict[str, Any], name: str, kind: type[T], where: str) -> T:
    if not isinstance(part, dict) or name not in part:
        raise TypeError(f"damaged: {where} has no {name}")
    value: T = part[name]
    if type(value) is not kind:  # True is no number
        raise TypeError(f"damaged: {name} in {where} is {short(value)}")
    return value


def _to_characters(data: bytes) -> str:
    return "".join([_CHARACTERS[byte] for byte in data])


def _to_bytes(name: str) -> bytes:
    if not name or not _BYTES.keys() >= set(name):
        raise ValueError(f"the token {short(name)} is neither written in the characters of ByteLevel nor special")
    return bytes([_BYTES[character] for character in name])


def _merges(ranks: dict[bytes, int]) -> Iterator[tuple[bytes, tuple[bytes, bytes]]]:
    """Each token that is made by merging, with the two that it is made of, by id."""
    others, data_of = dict(ranks), {token: data for data, token in ranks.items()}
    for data, token in sorted(ranks.items(), key=lambda item: item[1]):
        if len(data) > 1:
            del others[data]  # else it would be found whole
            parts = merge_bytes(data, others)
            others[data] = token
            if len(parts) == 2:
                yield data, (data_of[parts[0]], data_of[parts[1]])


def _check_merges(model: dict[str, Any], ranks: dict[bytes, int]) -> None:
    """Merges that can never come about, because another one of the same token is faster, do not matter."""
    places = {}
    for place, merge in enumerate(_field(model, "merges", list, "the model")):
        pair = merge.split(" ") if isinstance(merge, str) else merge  # before 0.20 it was a string
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise TypeError(f"damaged: a merge is {short(merge)}")
        left, right = map(_to_bytes, pair)
        for data in (left, right, left + right):
            if data not in ranks:
                raise ValueError(f"the merge {short(merge)} needs {short(data)}, which is not in its vocabulary")
        places[left, right] = place
    made, last = dict(_merges(ranks)), -1
    for data in ranks:
        if len(data) > 1 and data not in made and model.get("ignore_merges") is not True:
            raise ValueError(f"no merges lead to its token {short(data)}, so that glassgpt's ids could differ")
    for data, pair in made.items():
        if (place := places.get(pair, -1)) < 0:
            raise ValueError(f"its merges do not make {short(data)} of {short(pair)}, as glassgpt would")
        if place < last:
            raise ValueError(f"its merges are not in the order of the ids, as glassgpt's are: see {short(data)}")
        last = place


def _special(added: list[Any], vocab: dict[str, int]) -> dict[str, int]:
    special: dict[str, int] = {}
    new = len(vocab)
    for token in added:
        name, number = _field(token, "content", str, "an added token"), _field(token, "id", int, "an added token")
        if token.get("special") is not True:
            raise ValueError(f"its added token {short(name)} is not special, and glassgpt has only such")
        if any(token.get(option) for option in ("single_word", "lstrip", "rstrip")):
            raise ValueError(f"its special token {short(name)} has single_word, lstrip or rstrip set")
        _check_special_name(name)
        if number != vocab.get(name, new):  # in which case `tokenizers` gives it another one
            raise ValueError(f"damaged: the id {number} of the special token {short(name)} is not the vocabulary's")
        new += name not in vocab
        special[name] = number
    return special


def _check_special_name(name: str) -> None:
    """Refuse what `tokenizers` would drop, not read, or decode as bytes."""
    if not name or (not name.isascii() and _BYTES.keys() >= set(name)) or regex.search(r"[\ud800-\udfff]", name):
        raise UserError(f"the name of the special token {name!r} is not possible in both formats")


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _pre_tokenizer(pattern: str) -> dict[str, Any]:
    if pattern in ("gpt2", _WHOLE):
        return _byte_level(use_regex=pattern == "gpt2")
    expression = _GPT4 if pattern == "gpt4" else _checked(pattern)
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _byte_level(use_regex=False)]}


def _pattern(pre_tokenizer: Any) -> str:
    parts = [pre_tokenizer]
    if isinstance(pre_tokenizer, dict) and pre_tokenizer.get("type") == "Sequence":
        parts = _field(pre_tokenizer, "pretokenizers", list, "the pre-tokenizer")
    types = [part.get("type") if isinstance(part, dict) else None for part in parts]
    if types not in (["ByteLevel"], ["Split", "ByteLevel"]):
        raise ValueError(f"its pre-tokenizer is {short(types)}, and glassgpt reads ByteLevel, or Split and ByteLevel")
    if _field(parts[-1], "add_prefix_space", bool, "ByteLevel"):
        raise ValueError("its ByteLevel has add_prefix_space, a space before each text, which glassgpt has not")
    use_regex = "use_regex" not in parts[-1] or _field(parts[-1], "use_regex", bool, "ByteLevel")
    if len(parts) == 1:
        return "gpt2" if use_regex else _WHOLE
    if use_regex or parts[0].get("behavior") != "Isolated" or parts[0].get("invert") is not False:
        raise ValueError("its Split is not Isolated, or is inverted, or ByteLevel cuts again (use_regex)")
    expression = _field(_field(parts[0], "pattern", dict, "Split"), "Regex", str, "the pattern of Split")
    return _NAMES.get(expression) or _checked(f"(?:{expression})" if expression in PATTERNS else expression)


def _checked(expression: str) -> str:
    """The expression, if both engines read it alike."""
    Pieces(expression)  # whether it is one
    tokens = _SHARED.findall(expression)
    if (at := sum(map(len, tokens))) < len(expression):
        raise UserError(f"the two engines may differ on the pattern {expression!r}, from {expression[at:]!r} on")
    # With each lookaround as a group that may be empty: engines go on differently after a match of nothing.
    widest = "".join("(?:|" if regex.fullmatch(r"\(\?<?[=!]", token) else token for token in tokens)
    if not expression or regex.compile(widest).match(""):
        raise UserError(f"the two engines differ on the pattern {expression!r}, which can match nothing")
    return expression


def _check_post_processor(post_processor: Any) -> None:
    """Refuse one that does more than to put tokens before a text."""
    parts = [post_processor]
    if isinstance(post_processor, dict) and post_processor.get("type") == "Sequence":
        parts = _field(post_processor, "processors", list, "the post-processor")
    for part in parts:
        kind = part and _field(part, "type", str, "the post-processor")
        last = _field(part, "single", list, "the post-processor")[-1:] if kind == "TemplateProcessing" else []
        if kind not in (None, "ByteLevel") and not (last and isinstance(last[0], dict) and "Sequence" in last[0]):
            raise ValueError(f"its post-processor ({kind}) adds more than a token before the text")
