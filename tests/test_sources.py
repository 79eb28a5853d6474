"""Whatever a user names: what it means, that it is read once and within bounds, or one line about what is wrong."""

import gzip
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glassgpt.data import blocks, documents, parquet, row_limits, rows
from glassgpt.data.blocks import make_blocks, split_parts
from glassgpt.data.config import DataConfig
from glassgpt.data.corpora import CORPORA
from glassgpt.data.decoding import decode_bytes, is_text, normalised, unescaped
from glassgpt.data.documents import read_parts, read_pieces
from glassgpt.data.opening import open_tokens, standard_input
from glassgpt.data.rows import Part
from glassgpt.data.sources import absolute_sources, find_sources
from glassgpt.data.text import Text, read_text
from glassgpt.data.unpacking import CHUNK, unpacked
from glassgpt.errors import UserError
from glassgpt.files import identity
from glassgpt.tokenizers import ByteTokenizer, TokenizerConfig
from tests.conftest import call

ANYWHERE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
POSIX = pytest.mark.skipif(os.name == "nt", reason="links, pipes and devices of POSIX")


def names_found(*names: object) -> list[str]:
    return [str(source.path) for source in find_sources([str(name) for name in names])]


def documents_read(*names: object, **settings: Any) -> list[str]:
    found: list[str] = []
    for begins, text in read_pieces(find_sources([str(name) for name in names]), **settings):
        if begins:
            found.append("")
        found[-1] += text
    return found


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    message = str(error.value)
    assert "\n" not in message and len(message) < 1_000
    return message


# --- what a name means -------------------------------------------------------------------------------------------


@POSIX
def test_a_link_keeps_its_own_name_and_so_what_that_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the Hugging Face hub's cache and DVC make them."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snap").mkdir()
    (tmp_path / "blobs" / "9f86").write_text('{"text": "one"}\n{"text": "two"}\n', encoding="utf-8")
    link = tmp_path / "snap" / "train.jsonl"
    link.symlink_to("../blobs/9f86")
    monkeypatch.chdir(tmp_path)
    assert absolute_sources(["snap/train.jsonl"]) == [str(link)]
    for names in (["snap/train.jsonl"], [str(link)], ["snap"], ["snap/*"], [str(tmp_path)], ["snap", "blobs"]):
        assert documents_read(*names) == ["one", "two"], names
    assert names_found("snap", "snap/train.jsonl", tmp_path) == ["snap/train.jsonl"]


NAMES = st.text(st.sampled_from("ab[]*?!{}~ -é.\\"), min_size=1, max_size=6).filter(
    lambda name: name.strip(". ") == name and not name.startswith("~")
)


@ANYWHERE
@given(folder=NAMES, name=NAMES, pattern=st.sampled_from(["*.txt", "**/*.txt", "*", "in/../*.txt"]))
def test_a_source_means_the_same_from_any_folder(
    folder: str, name: str, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        here = Path(place).resolve() / folder
        (here / "in").mkdir(parents=True)
        (here / f"{name}.txt").write_text("text", encoding="utf-8")
        patch.chdir(here)
        try:
            wanted = [identity(Path(found)) for found in names_found(pattern)]
            assert wanted == [identity(here / f"{name}.txt")]
            for source in (pattern, f"{name}.txt"):
                absolute = absolute_sources([source])
                patch.chdir(place)
                assert [identity(Path(found)) for found in names_found(*absolute)] == wanted, source
                assert absolute_sources(absolute) == absolute
                patch.chdir(here)
        finally:
            patch.chdir(tempfile.gettempdir())


FOLDERS = ["a", "a/b", "c", "c/d", "c/d/e"]


@POSIX
@ANYWHERE
@given(
    links=st.lists(st.tuples(st.sampled_from(["", *FOLDERS]), st.sampled_from(["..", ".", "", *FOLDERS])), max_size=5),
    start=st.sampled_from(["", "a", "c"]),
)
def test_links_in_circles_end_and_each_file_is_there_once(links: list[tuple[str, str]], start: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        top = Path(place).resolve() / "top"
        for folder in ("", *FOLDERS):
            (top / folder).mkdir(parents=True, exist_ok=True)
            (top / folder / "x.txt").write_text(f"in {folder}", encoding="utf-8")
        for number, (where, to) in enumerate(links):
            target = top / where / ".." if to == ".." else top / to
            (top / where / f"link{number}").symlink_to(target, target_is_directory=True)
        for name in (top / start, top / start / "**" / "*.txt"):
            found = documents_read(name)
            assert len(found) == len(set(found))
            inside = {f"in {each}" for each in ("", *FOLDERS) if f"{each}/".startswith(start)}
            assert set(found) >= inside
            assert found == documents_read(name)  # in the same order each time
            if not links:
                assert set(found) == inside


def test_a_folder_is_read_by_what_is_in_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = {"main.c": "int main;", "Makefile": "all:\n", "note": "é", "sub/deep.py": "x = 1", "z.txt": "z"}
    left = {
        **dict.fromkeys((".git/config", "._a.txt", ".venv/lib/a.py", "sub/.hidden.txt"), "hidden"),
        **dict.fromkeys(("z.txt~", "#z.txt#", "z.txt.swp", "z.txt.bak"), "a copy"),
        **dict.fromkeys(("node_modules/p/index.js", "env/pyvenv.cfg", "env/lib/site.py"), "installed"),
        **dict.fromkeys(("runs/r/recipe.toml", "runs/r/checkpoints/log.txt", "runs/r/samples.txt"), "run"),
        **dict.fromkeys(("tokens/header.json", "tokens/tokenizer.json"), "tokens"),
        "data.json": "[1, 2]",
        "picture.png": "\0PNG",
        "latin1": "caf\xe9",
        "packed.tar.gz": "\0",
    }
    for name, text in {**kept, **left}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode("latin-1" if name == "latin1" else "utf-8")
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert sorted(documents_read(tmp_path)) == sorted(kept.values())
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(tmp_path) in said
    for count in (
        "4 hidden files",
        "4 editors' copies",
        "2 folders of installed",
        "1 run",
        "1 prepared text",
        "1 JSON file",
        "3 files",
    ):
        assert count in said
    with pytest.raises(UserError, match="binary file"):
        documents_read(tmp_path / "picture.png")  # whoever names it hears what is wrong
    with pytest.raises(UserError, match="a run, not a text"):
        documents_read(tmp_path / "runs" / "r")


def test_a_text_in_a_folder_that_cannot_be_read_is_not_left_out_in_silence(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"a\.txt: not UTF-8"):
        documents_read(tmp_path)


def test_a_corpus_comes_before_a_folder_of_its_name_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "python-reference").mkdir()
    (tmp_path / "python-reference" / "a.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "python-reference" / "header.json").write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert find_sources(["python-reference"])[0].path is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "./python-reference" in said
    tokens = open_tokens(DataConfig(source=["python-reference"]), TokenizerConfig(kind="byte"))
    assert tokens.header["text"]["bytes"] > 300_000
    (tmp_path / "python-reference" / "header.json").unlink()
    assert documents_read("./python-reference") == ["mine"]
    assert documents_read(*absolute_sources(["./python-reference"])) == ["mine"]


def test_a_tilde_that_is_no_home_folder_is_a_part_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~$memo.txt").write_text("memo", encoding="utf-8")
    assert documents_read("~$memo.txt") == documents_read(*absolute_sources(["~$memo.txt"])) == ["memo"]


@POSIX
@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "pipe"])
def test_only_files_are_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("link.txt").symlink_to(name)
    for each in (name, "link.txt"):
        with pytest.raises(UserError, match=r"a device, not a file|read twice.*name - as the source") as error:
            Text.open(DataConfig(source=[each]))
        one_line(error)
    with pytest.raises(UserError, match="no text files"):
        documents_read(tmp_path)
    for loop in ("x", "y"):
        Path(loop).symlink_to("y" if loop == "x" else "x")
    for each in ("x", "n" * 5000, "a\0b", "/dev/fd/999"):
        with pytest.raises(UserError) as error:
            documents_read(each)
        one_line(error)


@POSIX
def test_a_name_that_is_not_utf8_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"big\xe9.txt")
    Path("fine.txt").write_text("text " * 100, encoding="utf-8")
    try:
        Path(name).write_text("text " * 100, encoding="utf-8")
    except OSError:
        pytest.skip("this file system has no such names")
    before = sorted(tmp_path.iterdir())
    for words in (["prepare", name, "--out", "out"], ["prepare", "fine.txt", "--out", name + "-out"]):
        assert call(*words, "--tokenizer", "byte") == 2
        assert "not UTF-8" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert len(documents_read(tmp_path)) == 2  # in a folder, its name is of no interest


# --- text, and what is none --------------------------------------------------------------------------------------

TEXTS = st.text(st.sampled_from(["a", "\r", "\n", "\ufeff", "é", "🎉"]))


@ANYWHERE
@given(TEXTS)
def test_a_text_is_the_same_whichever_way_it_comes(tmp_path: Path, text: str) -> None:
    data = text.encode("utf-8")
    assert normalised(text) == decode_bytes(data, "x")
    if normalised(text).strip():
        (tmp_path / "a.txt").write_bytes(data)
        assert read_text(DataConfig(source=[str(tmp_path / "a.txt")])) == normalised(text)


@given(st.text(st.characters(min_codepoint=1)), st.sampled_from(["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]))
def test_other_encodings_are_named(text: str, encoding: str) -> None:
    for data in ((text * 9 + "plain words").encode(encoding, "surrogatepass"), text.encode(encoding, "surrogatepass")):
        for marked in ("\ufeff".encode(encoding) + data, data):
            try:
                decode_bytes(marked, "x")
                assert marked is data and b"\0" not in data  # which may be UTF-8 by chance
            except UserError as error:
                assert "\n" not in str(error)
                assert marked is data or encoding[:6].upper() in str(error) or "UTF-16" in str(error)
    with pytest.raises(UserError, match=encoding.upper().replace("-LE", "LE").replace("-BE", "BE")):
        decode_bytes("plain words and lines\n".encode(encoding), "x")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF, not text: extract"),
        ("a.docx", b"PK\x03\x04\x14\0", r"zip archive .as \.docx"),
        ("a.txt", gzip.compress(b"text", mtime=0), "packed with gzip: give it a name that ends in .gz"),
        ("a.tar", b"name".ljust(257, b"\0") + b"ustar\0", "tar archive"),
        ("a.parquet.gz", gzip.compress(b"PAR1", mtime=0), "parquet is packed by itself"),
        ("a.txt", b" \n\t\n", "only white space"),
        ("a.jsonl", b'{"text": ""}\n', "no row holds a text"),
        ("a.txt.gz", gzip.compress(b"", mtime=0), "empty"),
    ],
)
def test_what_is_no_text_is_called_by_its_name(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as error:
        read_text(DataConfig(source=[str(tmp_path / name)]))
    one_line(error)


def test_json_is_taken_for_text_but_not_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text('[{"text": "one"}]', encoding="utf-8")
    assert documents_read(tmp_path / "a.json") == ['[{"text": "one"}]']
    assert "read as plain text" in capsys.readouterr().err


@given(st.text(st.sampled_from("nrt\\xé \n")))
def test_escapes_of_options(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    assert unescaped(escaped) == text
    assert unescaped(r"\d \x41 é") == r"\d \x41 é"


def test_a_newline_can_be_a_separator(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\nthree", encoding="utf-8")
    words = ["prepare", tmp_path / "a.txt", "--tokenizer", "byte", "--separator", r"\n", "--val-fraction", "0"]
    assert call(*words, "--out", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "header.json").read_text())["splits"]["train"]["documents"] == 3


@given(st.binary(max_size=40))
def test_what_looks_like_text_can_be_read_as_far_as_one_has_seen(data: bytes) -> None:
    if is_text(data):
        assert "\0" not in data.decode("utf-8", "ignore")


def test_standard_input_of_two_at_once_is_kept_apart_and_must_be_text(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    def pipe(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    pipe(b"one")
    with standard_input(["-"]) as first:
        pipe(b"two")
        with standard_input(["-"]) as second:
            assert first is not None and second is not None
            assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")
    assert not first.exists() and not second.exists()
    pipe(gzip.compress(b"text"))
    with pytest.raises(UserError, match="standard input: packed with gzip"), standard_input(["-"]):
        pass


# --- rows --------------------------------------------------------------------------------------------------------

LINES = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cc"])).map(lambda text: json.dumps({"text": text})),
        st.text(max_size=3).map(json.dumps),
        st.sampled_from(
            ["", " ", "null", '{"text": null}', '{"x": 1}', "5", "[", "]", '"a", "b"', "{", '"', '"\\ud800"']
        ),
    ),
    max_size=6,
)


@settings(max_examples=300)
@given(LINES)
def test_lines_parsed_together_are_what_each_is_by_itself(lines: list[str]) -> None:
    try:
        each = [
            text for n, line in enumerate(lines, 1) if line.strip() and (text := rows._json_text(line, f"{n}", "text"))
        ]
    except UserError as error:
        with pytest.raises(UserError) as raised:
            rows._texts_of(lines, 0, "x", "text")
        assert str(raised.value) == f"x: line {error}"
    else:
        assert rows._texts_of(lines, 0, "x", "text") == each


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_a_row_has_a_limit(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (row_limits, rows, parquet, documents):
        monkeypatch.setattr(module, "MOST_ROW", 5_000)
    monkeypatch.setattr(rows, "_PART", 1_000)
    monkeypatch.setattr("glassgpt.data.unpacking.CHUNK", 100)
    for length, fits in ((4_900, True), (5_100, False)):
        texts, path = ["short", "x" * length, "last"], tmp_path / f"a{suffix}"
        if suffix == ".parquet":
            table = pytest.importorskip("pyarrow").table({"text": texts})
            pytest.importorskip("pyarrow.parquet").write_table(table, path)
        else:
            data = "".join(json.dumps(text) + "\n" for text in texts).encode()
            if suffix == ".jsonl.zst":
                data = pytest.importorskip("zstandard").compress(data)
            path.write_bytes(gzip.compress(data) if suffix == ".jsonl.gz" else data)
        if fits:
            assert documents_read(path) == texts
            parts = list(read_parts(find_sources([str(path)])))
            assert max(len(text) for part in parts for text in part.texts) <= 1_000
            continue
        with pytest.raises(UserError, match=r"(line|row) 2: longer than .* MB") as error:
            documents_read(path)
        assert str(path) in one_line(error)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_little_that_unpacks_to_a_lot_comes_in_small_chunks(suffix: str, tmp_path: Path) -> None:
    path, size = tmp_path / f"a.jsonl{suffix}", 100 * 2**20
    data = b"x" * size
    path.write_bytes(gzip.compress(data, 1) if suffix == ".gz" else pytest.importorskip("zstandard").compress(data))
    sizes = [len(chunk) for chunk in unpacked(path)]
    assert sum(sizes) == size and max(sizes) <= CHUNK
    with pytest.raises(UserError, match=r"line 1: longer than 64 MB"):
        documents_read(path)


def test_parquet_of_bytes_that_are_no_text_and_of_one_text_many_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    _, offsets, data = pa.array([b"fine", b"\xff\xfe", b"x"]).buffers()
    write_table(pa.table({"text": pa.StringArray.from_buffers(3, offsets, data)}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="row 2: not UTF-8") as error:
        documents_read(tmp_path / "a.parquet")
    one_line(error)
    write_table(pa.table({"text": ["x" * 1_000] * 300 + ["y", None, ""]}), tmp_path / "b.parquet")
    for module in (row_limits, rows, parquet):
        monkeypatch.setattr(module, "MOST_ROW", 3_000)
    batches = list(parquet.parquet_texts(tmp_path / "b.parquet", "b", "text"))
    assert max(sum(map(len, batch)) for batch in batches) <= 3_000
    assert [text for batch in batches for text in batch] == ["x" * 1_000] * 300 + ["y"]


@ANYWHERE
@given(st.binary(max_size=200), st.sampled_from([".parquet", ".jsonl", ".txt.gz", ".txt.zst", ".txt"]))
def test_any_bytes_are_documents_or_one_line(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    try:
        documents_read(path)
    except UserError as error:
        assert "\n" not in str(error) and str(path) in str(error)


def test_a_text_without_a_place_to_cut_is_cut_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MOST_UNCUT", 800)
    text = "".join(f"{number}," for number in range(2_000))
    parts = [Part(True, ["words and words "]), *(Part(False, [text[n : n + 30]]) for n in range(0, len(text), 30))]
    for cut in (lambda _: 0, ByteTokenizer().safe_cut):
        found = list(make_blocks(split_parts(parts, 10**9), cut, 100))
        assert max(block.characters for block in found) <= 1_600
        assert "".join(text for block in found for text in block.texts) == "words and words " + text


def test_white_space_without_end_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MOST_ROW", 1_000)
    monkeypatch.setattr("glassgpt.data.unpacking.CHUNK", 100)
    (tmp_path / "a.txt").write_bytes(b"\n" * 5_000 + b"text")
    with pytest.raises(UserError, match="white space"):
        documents_read(tmp_path / "a.txt")


# --- advice ------------------------------------------------------------------------------------------------------


def test_a_text_too_short_to_learn_from_is_called_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    for words in (["prepare", tmp_path / "a.txt", "--tokenizer", "byte"], ["train", "--data", tmp_path / "a.txt"]):
        assert call(*words, "--out", tmp_path / "out") == 2
        assert "too short: it has 1 character" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_text_that_was_moved_or_changed_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("text " * 50, encoding="utf-8")
    data = DataConfig(source=[str(tmp_path / "in")], sha256=Text.open(DataConfig(source=[str(tmp_path / "in")])).sha256)
    open_tokens(data, TokenizerConfig(kind="byte"))
    (tmp_path / "in" / "new.py").write_text("more", encoding="utf-8")
    with pytest.raises(UserError, match=r"its SHA-256 differs.*to the folder.*patterns such as --data") as error:
        open_tokens(data, TokenizerConfig(kind="byte"))
    one_line(error)
    (tmp_path / "in").rename(tmp_path / "out")
    with pytest.raises(UserError, match=r"no such file or folder.*if the text has been moved, say with --data"):
        open_tokens(data, TokenizerConfig(kind="byte"))


def test_a_wrong_folder_of_corpora_is_said_without_asking_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glassgpt.data.corpora._fetch", lambda *_: pytest.fail("asked the network"))
    for folder, message in ((tmp_path / "no", "no such folder"), (tmp_path, CORPORA["pooh"].filename)):
        monkeypatch.setenv("GLASSGPT_DATA", str(folder))
        with pytest.raises(UserError, match=message) as error:
            documents_read("pooh")
        assert "GLASSGPT_DATA" in one_line(error)
