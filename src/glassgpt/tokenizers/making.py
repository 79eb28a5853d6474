"""From a configuration, and a text where it takes one, to a tokenizer."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from glassgpt.errors import UserError, reason, shorten, show, suggest
from glassgpt.paths import expand
from glassgpt.tokenizers.base import END_OF_TEXT, Tokenizer, read_tokenizer_file
from glassgpt.tokenizers.bpe import BPETokenizer
from glassgpt.tokenizers.bpe_training import count, learn_tokens
from glassgpt.tokenizers.byte import ByteTokenizer
from glassgpt.tokenizers.char import CharTokenizer
from glassgpt.tokenizers.config import TokenizerConfig
from glassgpt.tokenizers.gpt2 import gpt2_tokenizer
from glassgpt.tokenizers.pieces import Pieces
from glassgpt.tokenizers.word import WordTokenizer, cut_words, word_boundary

KINDS: dict[str, type[Tokenizer]] = {
    cls.kind: cls for cls in (CharTokenizer, ByteTokenizer, WordTokenizer, BPETokenizer)
}
DEFAULT_BPE_SIZE = 4096
Progress = Callable[[str, int], None]
"""Called with what has been done more of, "characters" or "tokens", and how many more."""


def make_tokenizer(
    config: TokenizerConfig, texts: Iterable[str] = (), *, workers: int = 1, progress: Progress | None = None
) -> Tokenizer:
    """The tokenizer that a recipe asks for.

    Args:
        config: which.
        texts: what it learns from, if it `learns`; cut where `safe_cut` allows it.
        workers: processes to count in.
        progress: see `Progress`.

    Raises:
        UserError: there is nothing in the texts to learn, a file cannot be read, or GPT-2's vocabulary cannot be had.
    """
    tell = progress or (lambda *_: None)
    if config.file is not None:
        return load_tokenizer(config.file)
    if config.kind == "byte":
        return ByteTokenizer()
    if config.kind == "gpt2":
        return gpt2_tokenizer()
    if config.kind == "char":
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
            tell("characters", len(text))
        return CharTokenizer(characters, unknown=config.unknown)
    if config.kind == "word":
        words = count(texts, cut_words, workers=workers, progress=progress)
        _require(words)
        return WordTokenizer.from_counts(words, vocab_size=config.vocab_size, min_count=config.min_count)
    counts = count(texts, Pieces(config.pattern).cut, workers=workers, progress=progress)
    _require(counts)
    special = [END_OF_TEXT, *config.special]
    n_tokens = (config.vocab_size or DEFAULT_BPE_SIZE) - len(special)
    return BPETokenizer(learn_tokens(counts, n_tokens, progress), config.pattern, special)


def _require(counts: Mapping[str, int]) -> None:
    if not counts:
        raise UserError("a tokenizer needs a text to learn from: this one is empty")


def learns(config: TokenizerConfig) -> bool:
    """Whether the tokenizer is made from a text."""
    return config.file is None and config.kind not in ("byte", "gpt2")


def safe_cut(config: TokenizerConfig) -> Callable[[str], int]:
    """Where the texts for `make_tokenizer` may be cut: `Tokenizer.safe_cut` before there is a tokenizer."""
    if config.kind == "bpe":
        return Pieces(config.pattern).safe_cut
    return word_boundary if config.kind == "word" else len


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Read a tokenizer file of any kind.

    Raises:
        UserError: the file is missing, damaged, of an unknown kind, or from a newer glassgpt.
    """
    path = expand(path)
    data = read_tokenizer_file(path)
    kind = data.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"{path}: unknown kind of tokenizer {show(kind)}, {suggest(shorten(kind), KINDS)}")
    try:
        return KINDS[kind].from_state(data)
    except ValueError as error:
        raise UserError(f"{path}: damaged {kind} tokenizer: {reason(error)}") from None


def named_tokenizer(name: str) -> Tokenizer:
    """A tokenizer by name, `byte` or `gpt2`, or from a file, or from a folder that has one, as a run has.

    Raises:
        UserError: there is none of this name.
    """
    if name in ("byte", "gpt2"):
        return make_tokenizer(TokenizerConfig.parse({"kind": name}))
    path = expand(name)
    if not path.exists():
        raise UserError(
            f"no tokenizer {show(name)}: name a file that `glassgpt tokenizer train` made, byte or gpt2 "
            "(prepare also makes char, word and bpe)"
        )
    if path.is_dir() and not (path / "tokenizer.json").exists():
        raise UserError(f"{path}: no tokenizer.json in this folder: name a run, a prepared text, or a tokenizer file")
    return load_tokenizer(path / "tokenizer.json" if path.is_dir() else path)
