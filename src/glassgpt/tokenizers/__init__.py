"""Text to ids and back: a ladder of tokenizers, each a small step above the last. No torch in here."""

from glassgpt.tokenizers.base import StreamDecoder, Tokenizer
from glassgpt.tokenizers.bpe import BPETokenizer
from glassgpt.tokenizers.byte import ByteTokenizer
from glassgpt.tokenizers.char import CharTokenizer
from glassgpt.tokenizers.config import TokenizerConfig
from glassgpt.tokenizers.gpt2 import gpt2_tokenizer
from glassgpt.tokenizers.making import load_tokenizer, make_tokenizer, named_tokenizer
from glassgpt.tokenizers.word import WordTokenizer

__all__ = [
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "StreamDecoder",
    "Tokenizer",
    "TokenizerConfig",
    "WordTokenizer",
    "gpt2_tokenizer",
    "load_tokenizer",
    "make_tokenizer",
    "named_tokenizer",
]
