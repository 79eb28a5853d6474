"""How text is cut, as `tokenizer.json` says it: patterns that two engines of regular expressions read alike."""

from typing import Any, NotRequired, TypeVar

import regex
from pydantic import ConfigDict
from typing_extensions import TypedDict

from glassgpt.errors import UserError, show
from glassgpt.reading import checked
from glassgpt.tokenizers.expressions import Expression
from glassgpt.tokenizers.pieces import PATTERNS, Pieces

# Patterns as Oniguruma, the engine of `tokenizers`, spells them. There `{1,3}+` is one or more of `{1,3}`, so GPT-4's
# loses its last `+`, which only forbids to give digits back: nothing that comes after could use them.
WHOLE = r"(?s:.+)"  # no pattern: a text is one piece
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

T = TypeVar("T")


class _Part(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    type: NotRequired[Any]


class _PreTokenizers(_Part):
    pretokenizers: list[dict[str, Any]]


class _ByteLevel(_Part):
    add_prefix_space: bool
    use_regex: NotRequired[bool]


class _Regex(TypedDict):
    Regex: str


class _Split(_Part):
    pattern: _Regex
    behavior: str
    invert: bool


class _Processors(_Part):
    processors: list[_Part]


class _Template(_Part):
    single: list[dict[str, Any]]


def part(value: Any, kind: type[T], where: str) -> T:
    """A part of the file, held against a schema.

    Raises:
        ValueError: it is not such a part; the message begins with `where`.
    """
    try:
        return checked(value, kind)
    except ValueError as error:
        raise ValueError(f"damaged: {where}: {error}") from None


def to_pre_tokenizer(pattern: str) -> dict[str, Any]:
    """What cuts there as the pattern of a `BPETokenizer` does here.

    Raises:
        UserError: the two engines may differ on it.
    """
    if pattern in ("gpt2", WHOLE):
        return byte_level(use_regex=pattern == "gpt2")
    expression = _GPT4 if pattern == "gpt4" else _shared(pattern)
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, byte_level(use_regex=False)]}


def byte_level(use_regex: bool) -> dict[str, Any]:
    """Bytes written as characters; with `use_regex`, cut by GPT-2's pattern first."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def from_pre_tokenizer(pre_tokenizer: Any) -> str:
    """The pattern of a `BPETokenizer` that cuts as a pre-tokenizer does there.

    Raises:
        ValueError: it is damaged, or may cut otherwise.
    """
    parts = [pre_tokenizer]
    if isinstance(pre_tokenizer, dict) and pre_tokenizer.get("type") == "Sequence":
        parts = list(part(pre_tokenizer, _PreTokenizers, "pre_tokenizer")["pretokenizers"])
    types = [part.get("type") if isinstance(part, dict) else None for part in parts]
    if types not in (["ByteLevel"], ["Split", "ByteLevel"]):
        raise ValueError(f"its pre-tokenizer is {show(types)}, and glassgpt reads ByteLevel, or Split and ByteLevel")
    level = part(parts[-1], _ByteLevel, "ByteLevel")
    if level["add_prefix_space"]:
        raise ValueError("its ByteLevel has add_prefix_space, a space before each text, which glassgpt has not")
    cuts = level.get("use_regex", True)
    if len(parts) == 1:
        return "gpt2" if cuts else WHOLE
    split = part(parts[0], _Split, "Split")
    if cuts or split["behavior"] != "Isolated" or split["invert"]:
        raise ValueError("its Split is not Isolated, or is inverted, or ByteLevel cuts again (use_regex)")
    expression = split["pattern"]["Regex"]
    return _NAMES.get(expression) or _shared(f"(?:{expression})" if expression in PATTERNS else expression)


def check_post_processor(post_processor: Any) -> None:
    """Refuse one that does more than to put tokens before a text.

    Raises:
        ValueError: it does, or is damaged.
    """
    if post_processor is None:
        return
    parts = [part(post_processor, _Part, "post_processor")]
    if parts[0].get("type") == "Sequence":
        parts = part(post_processor, _Processors, "post_processor")["processors"]
    for one in parts:
        kind = one.get("type")
        last = part(one, _Template, "post_processor")["single"][-1:] if kind == "TemplateProcessing" else []
        if kind != "ByteLevel" and not (last and "Sequence" in last[0]):
            raise ValueError(f"its post-processor ({show(kind)}) adds more than a token before the text")


def _shared(expression: str) -> str:
    """The expression, if both engines read it alike."""
    Pieces(expression)  # whether it is one
    tokens = _SHARED.findall(expression)
    if (at := sum(map(len, tokens))) < len(expression):
        raise UserError(
            f"the two engines may differ on the pattern {show(expression)}, from {show(expression[at:])} on"
        )
    # With each lookaround as a group that may be empty: engines go on differently after a match of nothing.
    widest = "".join("(?:|" if regex.fullmatch(r"\(\?<?[=!]", token) else token for token in tokens)
    if not expression or Expression(widest).matches(""):
        raise UserError(f"the two engines differ on the pattern {show(expression)}, which can match nothing")
    return expression
