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
from typing import Any, NotRequired

import regex
from pydantic import ConfigDict
from typing_extensions import TypedDict

from glassgpt.errors import UserError, reason, show
from glassgpt.files import write_text
from glassgpt.interop.pre_tokenizers import (
    WHOLE,
    byte_level,
    check_post_processor,
    from_pre_tokenizer,
    part,
    to_pre_tokenizer,
)
from glassgpt.paths import expand
from glassgpt.reading import read_json_as
from glassgpt.tokenizers import BPETokenizer, ByteTokenizer, Tokenizer
from glassgpt.tokenizers.bpe import BYTES, merge_bytes
from glassgpt.tokenizers.gpt2 import byte_characters

MOST_BYTES = 2**26  # of a file to import: the largest vocabularies take 35 MB
_CHARACTERS = dict(sorted(byte_characters().items()))
_BYTES = {character: byte for byte, character in _CHARACTERS.items()}


class _AddedToken(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    id: int
    content: str


class _Model(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    vocab: dict[str, int]
    merges: list[str | list[str]]


class _File(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    model: dict[str, Any]
    added_tokens: list[_AddedToken]
    normalizer: NotRequired[Any]
    pre_tokenizer: NotRequired[Any]
    post_processor: NotRequired[Any]


def save_tokenizer_json(tokenizer: Tokenizer, path: Path | str) -> None:
    """Write a tokenizer as `tokenizer.json`: see `to_tokenizer_json`.

    Raises:
        UserError: the tokenizer cannot be exported.
    """
    write_text(expand(path), json.dumps(to_tokenizer_json(tokenizer), indent=2) + "\n")


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
        ranks, pattern = {data: data[0] for data in BYTES}, WHOLE
    else:
        raise UserError(f"a tokenizer of the kind {tokenizer.kind!r} cannot be exported: only bpe and byte can")
    special = dict(sorted(tokenizer.special_tokens.items(), key=lambda item: item[1]))
    vocab = {_to_characters(data): token for data, token in ranks.items()}
    for name in special:
        _check_special_name(name)
        if name in vocab:
            raise UserError(f"the special token {show(name)} cannot be exported: a token of bytes is written so, too")
    # They go into the vocabulary as well, since the ids in `added_tokens` alone count for nothing there.
    vocab = dict(sorted({**vocab, **special}.items(), key=lambda item: item[1]))
    merges = dict(_merges(ranks))
    options = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        **dict.fromkeys(("truncation", "padding", "normalizer", "post_processor")),
        "added_tokens": [{"id": n, "content": name, **options, "special": True} for name, n in special.items()],
        "pre_tokenizer": to_pre_tokenizer(pattern),
        "decoder": byte_level(use_regex=True),
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
    path = expand(path)
    return from_tokenizer_json(read_json_as(path, "a tokenizer.json", dict[str, Any], MOST_BYTES), str(path))


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
    except ValueError as error:
        raise UserError(f"{source}: cannot be taken over: {reason(error)}") from None


def _read(data: Any) -> BPETokenizer:
    file = part(data, _File, "the file")
    model = file["model"]
    kind = model.get("type", "BPE" if "merges" in model else None)  # the oldest files do without
    if kind != "BPE":
        raise ValueError(f"its model is {show(kind)}, and only BPE can be read")
    for name in ("dropout", "byte_fallback", "end_of_word_suffix", "continuing_subword_prefix"):
        if model.get(name):
            raise ValueError(f"its model has {name} {show(model[name])}, which glassgpt has not")
    if file.get("normalizer") is not None:
        raise ValueError("its normalizer changes the text first, which glassgpt does not")
    check_post_processor(file.get("post_processor"))
    pattern = from_pre_tokenizer(file.get("pre_tokenizer"))
    pairs = part(model, _Model, "model")
    special = _special(file["added_tokens"], pairs["vocab"])
    ranks = {_to_bytes(name): token for name, token in pairs["vocab"].items() if name not in special}
    ids = sorted([*ranks.values(), *special.values()])
    if (wrong := next((n for n, token in enumerate(ids) if n != token), None)) is not None:
        raise ValueError(f"its ids are not 0, 1, 2 and so on: there is no {wrong}, or one comes twice")
    tokenizer = BPETokenizer(sorted(ranks, key=ranks.__getitem__), pattern, special)
    _check_merges(pairs["merges"], tokenizer.ranks, ignored=model.get("ignore_merges") is True)
    return tokenizer


def _to_characters(data: bytes) -> str:
    return "".join([_CHARACTERS[byte] for byte in data])


def _to_bytes(name: str) -> bytes:
    if not name or not _BYTES.keys() >= set(name):
        raise ValueError(f"the token {show(name)} is neither written in the characters of ByteLevel nor special")
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


def _check_merges(merges: list[str | list[str]], ranks: dict[bytes, int], *, ignored: bool) -> None:
    """Merges that can never come about, because another one of the same token is faster, do not matter."""
    places: dict[tuple[bytes, bytes], int] = {}
    for place, merge in enumerate(merges):
        halves = merge.split(" ") if isinstance(merge, str) else merge  # before 0.20 it was a string
        if len(halves) != 2:
            raise ValueError(f"damaged: a merge is {show(merge)}")
        left, right = map(_to_bytes, halves)
        for data in (left, right, left + right):
            if data not in ranks:
                raise ValueError(f"the merge {show(merge)} needs {show(data)}, which is not in its vocabulary")
        places[left, right] = place
    made, last = dict(_merges(ranks)), -1
    for data in ranks:
        if len(data) > 1 and data not in made and not ignored:
            raise ValueError(f"no merges lead to its token {show(data)}, so that glassgpt's ids could differ")
    for data, pair in made.items():
        if (place := places.get(pair, -1)) < 0:
            raise ValueError(f"its merges do not make {show(data)} of {show(pair)}, as glassgpt would")
        if place < last:
            raise ValueError(f"its merges are not in the order of the ids, as glassgpt's are: see {show(data)}")
        last = place


def _special(added: list[_AddedToken], vocab: dict[str, int]) -> dict[str, int]:
    special: dict[str, int] = {}
    new = len(vocab)
    for token in added:
        name, number = token["content"], token["id"]
        if token.get("special") is not True:
            raise ValueError(f"its added token {show(name)} is not special, and glassgpt has only such")
        if any(token.get(option) for option in ("single_word", "lstrip", "rstrip")):
            raise ValueError(f"its special token {show(name)} has single_word, lstrip or rstrip set")
        _check_special_name(name)
        if number != vocab.get(name, new):  # in which case `tokenizers` gives it another one
            raise ValueError(f"damaged: the id {number} of the special token {show(name)} is not the vocabulary's")
        new += name not in vocab
        special[name] = number
    return special


def _check_special_name(name: str) -> None:
    """Refuse what `tokenizers` would drop, not read, or decode as bytes."""
    if not name or (not name.isascii() and _BYTES.keys() >= set(name)) or regex.search(r"[\ud800-\udfff]", name):
        raise UserError(f"the name of the special token {show(name)} is not possible in both formats")
