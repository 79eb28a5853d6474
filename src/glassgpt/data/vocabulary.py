"""How large a vocabulary will be, without fetching a text only to count it."""

from collections.abc import Sequence

from glassgpt.data.corpora import CORPORA
from glassgpt.data.text import read_text
from glassgpt.tokenizers import TokenizerConfig, make_tokenizer


def vocabulary_size(tokenizer: TokenizerConfig, sources: Sequence[str]) -> int:
    """The size of the vocabulary that a tokenizer will have on these sources."""
    if tokenizer.kind == "char" and len(sources) == 1 and sources[0] in CORPORA:
        return CORPORA[sources[0]].distinct_characters + tokenizer.unknown
    text = "" if tokenizer.kind == "byte" else read_text(sources)
    return make_tokenizer(tokenizer, text).vocab_size
