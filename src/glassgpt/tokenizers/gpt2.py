"""GPT-2's own vocabulary: the byte-pair tokenizer of this folder, with the 50,000 merges that OpenAI published."""

import hashlib
import json
import os
from functools import cache
from pathlib import Path

from glassgpt.errors import UserError
from glassgpt.paths import expand
from glassgpt.reading import read_bytes
from glassgpt.tokenizers.base import END_OF_TEXT
from glassgpt.tokenizers.bpe import BPETokenizer

VOCAB_SIZE = 50_257
FILES = {  # what tiktoken pins, too
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}
OWN_FOLDER = "GLASSGPT_DATA"


def gpt2_tokenizer() -> BPETokenizer:
    """GPT-2's tokenizer, 50,257 tokens.

    Its two files come from the folder `GLASSGPT_DATA` if they are there, else from tiktoken, which fetches them once
    and keeps them (in `TIKTOKEN_CACHE_DIR`, if that is set).

    Raises:
        UserError: `GLASSGPT_DATA` names no folder, a file is another one, or they can be had nowhere; the message says
            what to put where.
    """
    if own := os.environ.get(OWN_FOLDER):
        folder = expand(own)
        if not folder.is_dir():
            raise UserError(f"{OWN_FOLDER} names {folder}, which is not a folder: correct it, or unset it")
        if any(os.path.lexists(folder / name) for name in FILES):
            return read_gpt2_files(folder)
    return BPETokenizer(_tokens_from_tiktoken())


@cache
def _tokens_from_tiktoken() -> list[bytes]:
    import tiktoken

    try:
        encoding = tiktoken.get_encoding("gpt2")
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong hash is a ValueError
        raise UserError(
            f"GPT-2's vocabulary could not be fetched ({type(error).__name__}): put vocab.bpe and encoder.json "
            f"(as OpenAI published them) into a folder and name that folder in {OWN_FOLDER}"
        ) from None
    return [encoding.decode_single_token_bytes(token) for token in range(VOCAB_SIZE - 1)]


def read_gpt2_files(folder: Path) -> BPETokenizer:
    """GPT-2's tokenizer from its two published files, `vocab.bpe` and `encoder.json`.

    The merges alone say everything: a token is the two that it is made of. `encoder.json` has to agree with them.

    Raises:
        UserError: a file is missing or is another one.
    """
    contents = {}
    for name, digest in FILES.items():
        try:
            contents[name] = read_bytes(folder / name, "one of GPT-2's two files", 2**24)
        except UserError as error:
            raise UserError(f"{error}: GPT-2 needs both vocab.bpe and encoder.json") from None
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise UserError(
                f"{folder / name}: not GPT-2's (its SHA-256 differs): remove it, or put the right one there"
            )
    byte_of = {character: bytes([byte]) for byte, character in byte_characters().items()}
    tokens = list(byte_of.values())
    for line in contents["vocab.bpe"].decode("utf-8").splitlines()[1:]:  # the first line is a version
        tokens.append(b"".join(byte_of[character] for character in line if character != " "))
    numbered: dict[str, int] = json.loads(contents["encoder.json"])
    by_name = {b"".join(byte_of[c] for c in name): token for name, token in numbered.items() if name != END_OF_TEXT}
    assert by_name == {data: token for token, data in enumerate(tokens)}
    return BPETokenizer(tokens)


def byte_characters() -> dict[int, str]:
    """The printable character that stands for each byte in GPT-2's files, in the order of GPT-2's ids.

    Bytes that are printable in Latin-1 stand for themselves, the others for the characters from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}
