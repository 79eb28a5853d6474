"""How large a vocabulary will be, without reading a text only to count it."""

from glassgpt.data.config import DataConfig
from glassgpt.data.corpora import CORPORA
from glassgpt.data.opening import learn_tokenizer
from glassgpt.data.text import Text
from glassgpt.data.tokens import TokenFolder, is_token_folder
from glassgpt.paths import expand
from glassgpt.tokenizers import TokenizerConfig
from glassgpt.tokenizers.gpt2 import VOCAB_SIZE
from glassgpt.tokenizers.making import DEFAULT_BPE_SIZE


def vocabulary_size(tokenizer: TokenizerConfig, data: DataConfig) -> int:
    """The size of the vocabulary that a recipe's tokenizer will have on its text.

    For bpe, it is what is asked for; a text may be too short to fill it.
    """
    if len(data.source) == 1 and is_token_folder(data.source[0]):
        return TokenFolder(expand(data.source[0])).tokenizer.vocab_size
    if tokenizer.file is None and tokenizer.kind == "gpt2":
        return VOCAB_SIZE
    if tokenizer.file is None and tokenizer.kind == "bpe":
        return tokenizer.vocab_size or DEFAULT_BPE_SIZE
    if tokenizer.file is None and tokenizer.kind == "char" and len(data.source) == 1 and data.source[0] in CORPORA:
        return CORPORA[data.source[0]].distinct_characters + tokenizer.unknown
    return learn_tokenizer(tokenizer, Text.open(data)).vocab_size
