"""What `prepare` reads back, its journal and its folders, is held against the disk; and a cache costs time at most."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glassgpt.data import prepare as module
from glassgpt.data.batches import Batches, Windows, as_token_array
from glassgpt.data.blocks import Block
from glassgpt.data.config import DataConfig
from glassgpt.data.corpora import CORPORA, corpus_file
from glassgpt.data.opening import open_tokens
from glassgpt.data.prepare import prepare
from glassgpt.data.text import Text
from glassgpt.data.tokens import TokenFolder
from glassgpt.errors import UserError
from glassgpt.reading import sha256_of
from glassgpt.tokenizers import ByteTokenizer, Tokenizer, TokenizerConfig
from tests.conftest import corpus_or_skip
from tests.test_prepare import equal_folders

ANYWHERE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=50)
TEXT = "the cat sat on the mat, the dog sat on the log.\n" * 60
WEIRD: list[Any] = [None, True, -1, 0, 1, 10**30, 1.5, 1e300, "x", "", [], {}, [[]], float("nan"), float("inf")]


class KilledError(BaseException):
    """The process ends here."""


@pytest.fixture
def text(tmp_path: Path) -> Text:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in TEXT.splitlines()), encoding="utf-8")
    return Text.open(DataConfig(source=[str(path)]))


def begun(text: Text, out: Path, monkeypatch: pytest.MonkeyPatch, after: int = 2) -> Path:
    """The folder of a call that was killed after some blocks; the finished one is beside it."""
    monkeypatch.setattr(module, "BLOCK", 700)
    original = module.encode_block
    if not (out.parent / "whole").exists():
        prepare(text, ByteTokenizer(), out.parent / "whole", workers=1)
    done = 0

    def encode_block(tokenizer: Tokenizer, block: Block) -> Any:
        nonlocal done
        done += 1
        if done > after:
            raise KilledError
        return original(tokenizer, block)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "encode_block", encode_block)
        with pytest.raises(KilledError):
            prepare(text, ByteTokenizer(), out, workers=1)
    return out.with_name(f".{out.name}.partial")


@st.composite
def edits(draw: st.DrawFn) -> Callable[[Path], None]:
    """Something that happens to a folder under way."""
    name = draw(st.sampled_from(["journal.jsonl", "journal.jsonl", "train.tokens.bin", "train.documents.bin"]))
    place = draw(st.floats(0, 1, exclude_max=True))
    kind = draw(st.sampled_from(["flip", "cut", "grow", "remove", "line", "twice", "swap", "field", "link", "folder"]))
    value = draw(st.sampled_from(WEIRD))
    field = draw(st.sampled_from(["train", "val", "crc", "check", "tokens", "documents", "bytes", "unknown_bits"]))

    def edit(work: Path) -> None:
        path = work / name
        if not path.is_file():  # the change before this one
            return
        data = bytearray(path.read_bytes())
        at = int(place * len(data))
        lines = data.splitlines(keepends=True)
        line = int(place * len(lines))
        if kind == "flip":
            data[at] ^= 1 << (at % 8)
        elif kind == "cut":
            data = data[:at]
        elif kind == "grow":
            data += b'{"train"'
        elif kind == "line" or (kind == "field" and not name.endswith("jsonl")):
            data = bytearray(b"".join(lines[:line] + lines[line + 1 :]))
        elif kind == "twice":
            data = bytearray(b"".join(lines[:line] + lines[line : line + 1] + lines[line:]))
        elif kind == "swap":
            data = bytearray(b"".join(lines[::-1]))
        elif kind == "field":
            row = json.loads(lines[line])
            (row if field in row else row.get("train", row))[field] = value
            lines[line] = bytearray(json.dumps(row).encode() + b"\n")
            data = bytearray(b"".join(lines))
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "link" and os.name != "nt":
            path.symlink_to("/dev/zero")
        elif kind != "remove":
            path.write_bytes(data)

    return edit


@ANYWHERE
@given(changes=st.lists(edits(), min_size=1, max_size=2), after=st.integers(0, 3))
def test_a_journal_in_doubt_is_begun_anew(
    changes: list[Callable[[Path], None]], after: int, text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens to it, the folder comes out as if nothing had, and nothing is left beside it."""
    out = tmp_path / "out"
    work = begun(text, out, monkeypatch, after)
    for change in changes:
        with suppress(OSError, IndexError, KeyError, ValueError, AttributeError, TypeError):
            change(work)  # which another may have left nothing to change
    prepare(text, ByteTokenizer(), out, workers=1)
    assert equal_folders(tmp_path / "whole", out)
    assert not work.exists()
    for file in out.iterdir():
        file.unlink()
    out.rmdir()


def test_a_journal_of_blocks_that_are_cut_elsewhere_now_is_begun_anew(
    text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(text, tmp_path / "out", monkeypatch)
    original = module.make_blocks
    monkeypatch.setattr(module, "make_blocks", lambda parts, cut, size: original(parts, cut, 170))
    prepare(text, ByteTokenizer(), tmp_path / "out", workers=1)
    assert equal_folders(tmp_path / "whole", tmp_path / "out")


def test_what_is_not_as_it_was_written_is_not_published(text: Text, tmp_path: Path) -> None:
    class Wrong(ByteTokenizer):
        def encode(self, text: str) -> list[int]:
            return [300 if token == 32 else token for token in super().encode(text)]

    with pytest.raises(UserError, match=r"damaged while it was written .*the id 300, but the vocabulary has 257"):
        prepare(text, Wrong(), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl"]


def test_a_lock_that_a_killed_call_left_goes(text: Text, tmp_path: Path) -> None:
    prepare(text, ByteTokenizer(), tmp_path / "out")
    (tmp_path / ".out.lock").touch()
    with pytest.raises(UserError, match="holds a prepared text already"):
        prepare(text, ByteTokenizer(), tmp_path / "out")
    assert not (tmp_path / ".out.lock").exists()


# --- prepared folders --------------------------------------------------------------------------------------------


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value in nested ones."""
    found = [path] if path else []
    if isinstance(value, dict):
        for name, inner in value.items():
            found += paths_of(inner, (*path, name))
    return found


@ANYWHERE
@given(data=st.data(), value=st.sampled_from([*WEIRD, 2, 255, 256, 2**62, "0" * 64, "uint8", "uint32", "float16"]))
def test_a_header_fits_its_files_or_is_refused(
    data: st.DataObject, value: Any, text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    if not out.exists():
        prepare(text, ByteTokenizer(), out)
    whole = (out / "header.json").read_text(encoding="utf-8")
    header = json.loads(whole)
    path = data.draw(st.sampled_from(paths_of(header)))
    inner = header
    for name in path[:-1]:
        inner = inner[name]
    before, inner[path[-1]] = inner[path[-1]], value
    (out / "header.json").write_text(json.dumps(header).replace("1e+300", "1e400"), encoding="utf-8")
    try:
        folder = TokenFolder(out)
        train = folder.split("train")
        free = path[0] == "val_fraction" or path[-1] in ("unknown_bits", "kind", "sources", "bytes", "characters")
        assert free or value == before or path[-1] in ("sha256", "version", "fingerprint")
        assert train.measure().bytes == TokenFolder(out).split("train").measure().bytes
    except UserError as error:
        assert "\n" not in str(error) and str(out) in str(error) and len(str(error)) < 400 + len(str(out))
    finally:
        (out / "header.json").write_text(whole, encoding="utf-8")


def rewritten(folder: Path, split: str, kind: str, array: Any) -> None:
    """Other content with digests that fit it."""
    path = folder / f"{split}.{kind}.bin"
    path.write_bytes(array.tobytes())
    header = json.loads((folder / "header.json").read_text(encoding="utf-8"))
    header["splits"][split] |= {kind: len(array), f"{kind}_sha256": sha256_of(path)}
    (folder / "header.json").write_text(json.dumps(header), encoding="utf-8")


def test_ids_and_documents_are_what_the_header_means(text: Text, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(text, ByteTokenizer(), out)
    ids = np.fromfile(out / "train.tokens.bin", "<u2")
    begins = np.fromfile(out / "train.documents.bin", "<u8")
    for position in (0, len(ids) // 2, len(ids) - 1):
        wrong = ids.copy()
        wrong[position] = 257
        rewritten(out, "train", "tokens", wrong)
        with pytest.raises(UserError, match=r"train\.tokens\.bin: damaged: it holds the id 257, but the vocabulary"):
            TokenFolder(out)
    rewritten(out, "train", "tokens", ids)
    TokenFolder(out)
    for change in ((0, 1), (1, 0), (-1, len(ids)), (-1, 2**63), (5, 2**40)):
        wrong = begins.copy()
        wrong[change[0]] = change[1]
        rewritten(out, "train", "documents", wrong)
        with pytest.raises(UserError, match=r"train\.documents\.bin: damaged: documents begin where"):
            TokenFolder(out)


@given(
    ids=st.sampled_from([[1.5], [[1, 2]], ["a"], [None], 5, [2**70], [-1], [20], np.zeros(3), np.zeros((2, 2), int)]),
    vocab_size=st.sampled_from([20, -1, 0, 1.5, 2**40, None]),
)
def test_arguments_that_make_no_sense_are_refused(ids: Any, vocab_size: Any) -> None:
    with pytest.raises(UserError):
        as_token_array(ids, vocab_size)
    good = np.arange(50, dtype=np.uint16)
    if not isinstance(ids, list) or ids not in ([-1], [20]):
        for make in (Batches, Windows):
            with pytest.raises(UserError):
                make(ids, 2, 2)
    for documents in ([20, 0], [-5], [0.5], [0, 99], 5, "x"):
        for make in (Batches, Windows):
            with pytest.raises(UserError):
                make(good, 2, 2, documents=documents)  # type: ignore[arg-type]
    for named in ({"block_size": 0}, {"block_size": 1.5}, {"batch_size": -1}, {"batch_size": "2"}):
        for make in (Batches, Windows):
            with pytest.raises(UserError, match=next(iter(named))):
                make(good, **{"block_size": 2, "batch_size": 2, **named})  # type: ignore[arg-type]
    for order in (None, [], "window"):
        with pytest.raises(UserError, match="windows or epochs"):
            Batches(good, 2, 2, order=order)  # type: ignore[arg-type]


# --- the cache ---------------------------------------------------------------------------------------------------


@pytest.fixture
def warnings_given(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr("glassgpt.data.caches.warn_no_cache", lambda folder, error: found.append(f"{folder}: {error}"))
    return found


@pytest.mark.parametrize("harm", ["a file", "below a file", "dead link", "no home", "rename", "mkdir", "open", "fsync"])
def test_a_cache_that_cannot_be_used_costs_time_and_nothing_else(
    harm: str, text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings_given: list[str]
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("GLASSGPT_CACHE", str(cache / "in" if harm == "below a file" else cache))
    if harm == "a file" or harm == "below a file":
        cache.write_text("mine", encoding="utf-8")
    elif harm == "dead link":
        cache.symlink_to(tmp_path / "nowhere" / "at" / "all")
    elif harm == "no home":
        monkeypatch.delenv("GLASSGPT_CACHE")
        monkeypatch.setattr("glassgpt.data.caches.cache_folder", lambda: Path("~/.cache/glassgpt"))
    else:

        def failing(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(path: Any, *rest: Any, **named: Any) -> Any:
                writes = harm != "open" or (rest and set(str(rest[0])) & set("aw+"))
                if str(cache) in str(path if isinstance(path, str | Path) else "") and writes:
                    raise OSError(errno.EDQUOT, "Disk quota exceeded", str(path))
                return original(path, *rest, **named)

            return call

        name = {"rename": "rename", "mkdir": "mkdir", "open": "open", "fsync": "touch"}[harm]
        monkeypatch.setattr(Path, name, failing(getattr(Path, name)))
    for config in (TokenizerConfig(kind="byte"), TokenizerConfig(kind="word")):
        tokens = open_tokens(text.data, config)
        assert len(tokens.split("train").ids) > 500
        if warnings_given:
            assert not str(tokens.path).startswith(str(tmp_path))
    assert warnings_given and all("cache" in line for line in warnings_given)
    monkeypatch.undo()
    assert not (tmp_path / "~").exists()
    if harm == "a file":
        assert cache.read_text(encoding="utf-8") == "mine"


def test_what_was_kept_instead_of_a_cache_goes_with_the_process(text: Text, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder", encoding="utf-8")
    (tmp_path / "tmp").mkdir()
    program = (
        "import sys\nfrom glassgpt.data.config import DataConfig\nfrom glassgpt.data.opening import open_tokens\n"
        "from glassgpt.tokenizers import ByteTokenizer\n"
        "for _ in range(2):\n"
        "    folder = open_tokens(DataConfig(source=[sys.argv[1]]), ByteTokenizer())\n"
        "    print(folder.path, len(folder.split('train').ids))\n"
    )
    environment = {"GLASSGPT_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(
        [sys.executable, "-c", program, text.data.source[0]],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first == second and str(tmp_path / "tmp") in first
    assert done.stderr.count("the cache cannot be used") == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_corpus_is_fetched_elsewhere_if_the_cache_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings_given: list[str]
) -> None:
    original = corpus_or_skip("pooh")
    (tmp_path / "cache").write_text("no folder", encoding="utf-8")
    monkeypatch.delenv("GLASSGPT_DATA")
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "cache"))

    def retrieve(url: str, known_hash: str, fname: str, path: Path, downloader: object) -> str:
        (path / fname).write_bytes(original.read_bytes())
        return str(path / fname)

    monkeypatch.setattr("pooch.retrieve", retrieve)
    file = corpus_file("pooh")
    assert sha256_of(file) == CORPORA["pooh"].sha256
    assert len(warnings_given) == 1
