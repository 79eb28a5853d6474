import io
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.data.batches import Batches, Windows, as_token_array
from glassgpt.data.config import DataConfig
from glassgpt.data.corpora import CORPORA, corpus_file, python_reference
from glassgpt.data.opening import open_tokens, standard_input
from glassgpt.data.text import read_text
from glassgpt.data.vocabulary import vocabulary_size
from glassgpt.errors import UserError
from glassgpt.tokenizers import TokenizerConfig
from tests.conftest import corpus_or_skip

IDS = np.arange(1000, dtype=np.uint16)


# --- batches -----------------------------------------------------------------------------------------------------


def test_targets_are_one_token_further_on() -> None:
    inputs, targets = Batches(IDS, 8, 4)(0)
    assert inputs.shape == targets.shape == (4, 8)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(targets, inputs + 1)  # the text counts upwards


@given(
    seed=st.integers(0, 10),
    order=st.sampled_from(["windows", "epochs"]),
    numbers=st.lists(st.integers(0, 200), min_size=1, max_size=5),
)
def test_a_batch_depends_on_seed_and_number_alone(seed: int, order, numbers: list[int]) -> None:
    used, fresh = (Batches(IDS[:200], 8, 4, seed=seed, order=order) for _ in range(2))
    for number in numbers:  # in any order, with others between
        again = Batches(IDS[:200], 8, 4, seed=seed, order=order)
        assert torch.equal(used(number)[0], again(number)[0])
    assert torch.equal(fresh(numbers[-1])[0], used(numbers[-1])[0])


def test_other_seeds_and_numbers_give_other_batches() -> None:
    starts = {tuple(Batches(IDS, 8, 4, seed=seed).starts(number)) for seed in range(5) for number in range(5)}
    assert len(starts) == 25


@given(
    length=st.integers(10, 120),
    block_size=st.integers(1, 9),
    batch_size=st.integers(1, 7),
    stride=st.integers(1, 12),
    epochs=st.integers(1, 3),
)
def test_every_window_once_an_epoch(length: int, block_size: int, batch_size: int, stride: int, epochs: int) -> None:
    batches = Batches(IDS[:length], block_size, batch_size, seed=1, order="epochs", stride=stride)
    wanted = range(0, length - block_size, stride)
    assert batches.n_windows == len(wanted)
    count = -(-epochs * batches.n_windows // batch_size)
    starts = np.concatenate([batches.starts(number) for number in range(count)])[: epochs * batches.n_windows]
    assert Counter(starts.tolist()) == Counter(list(wanted) * epochs)
    for epoch in range(epochs):
        one = starts[epoch * batches.n_windows :][: batches.n_windows]
        assert sorted(one) == list(wanted)


def test_epochs_come_in_different_orders() -> None:
    batches = Batches(IDS, 8, 124, order="epochs", stride=1)
    assert batches.n_windows == 8 * 124  # so that an epoch begins with a batch
    assert list(batches.starts(0)) != list(batches.starts(batches.per_epoch))


def test_random_windows_reach_both_ends() -> None:
    batches = Batches(IDS[:20], 8, 64)
    starts = np.concatenate([batches.starts(number) for number in range(20)])
    assert set(starts) == set(range(12))


def test_a_text_of_exactly_one_window() -> None:
    inputs, targets = Batches(IDS[:9], 8, 2)(0)
    assert inputs.tolist() == [list(range(8))] * 2
    assert targets[0, -1] == 8


def test_a_text_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(UserError, match=r"8 tokens, but one window takes 9.*--model.block-size 7"):
        Batches(IDS[:8], 8, 2)


@given(length=st.integers(2, 100), block_size=st.integers(1, 20), batch_size=st.integers(1, 5))
def test_evaluation_predicts_every_token_but_the_first_once(length: int, block_size: int, batch_size: int) -> None:
    windows = Windows(IDS[:length], block_size, batch_size)
    batches = list(windows)
    assert torch.cat([t.flatten() for _, t in batches]).tolist() == list(range(1, length))
    assert torch.cat([i.flatten() for i, _ in batches]).tolist() == list(range(length - 1))
    assert windows.tokens == length - 1
    assert all(i.shape[0] <= batch_size and i.shape[1] <= block_size for i, _ in batches)


@given(length=st.integers(20, 200), max_tokens=st.integers(1, 250))
def test_a_sampled_evaluation_looks_at_about_so_many_tokens(length: int, max_tokens: int) -> None:
    windows = Windows(IDS[:length], 8, 4, max_tokens=max_tokens)
    targets = torch.cat([t.flatten() for _, t in windows]).tolist()
    assert len(targets) == windows.tokens == len(set(targets))
    assert len(targets) <= max(8, max_tokens)


documents = st.lists(st.integers(1, 40), min_size=1, max_size=8).map(
    lambda lengths: (np.cumsum([0, *lengths])[:-1], sum(lengths))
)


@given(documents, st.integers(1, 9), st.integers(1, 7), st.sampled_from(["windows", "epochs"]), st.integers(1, 12))
def test_windows_within_documents(
    found: tuple[np.ndarray, int], block_size: int, batch_size: int, order, stride: int
) -> None:
    """Every window that fits into a document, and no other."""
    begins, total = found
    ends = [*begins[1:].tolist(), total]
    step = stride if order == "epochs" else 1
    wanted = [
        start
        for begin, end in zip(begins.tolist(), ends, strict=True)
        for start in range(begin, end - block_size, step)
    ]
    if not wanted:
        with pytest.raises(UserError, match="longest document"):
            Batches(IDS[:total], block_size, batch_size, order=order, stride=stride, documents=begins)
        return
    batches = Batches(IDS[:total], block_size, batch_size, order=order, stride=stride, documents=begins)
    assert batches.n_windows == len(wanted)
    starts = np.concatenate([batches.starts(number) for number in range(-(-len(wanted) // batch_size))])
    assert set(starts.tolist()) <= set(wanted)
    if order == "epochs":
        assert Counter(starts[: len(wanted)].tolist()) == Counter(wanted)


@given(documents, st.integers(1, 20), st.integers(1, 5))
def test_evaluation_within_documents_predicts_all_but_the_first_of_each(
    found: tuple[np.ndarray, int], block_size: int, batch_size: int
) -> None:
    begins, total = found
    if total == len(begins):
        return  # documents of one token each: nothing to predict
    windows = Windows(IDS[:total], block_size, batch_size, documents=begins)
    pairs = [pair for inputs, targets in windows for pair in zip(inputs, targets, strict=True)]
    targets = [token for _, row in pairs for token in row.tolist()]
    assert sorted(targets) == sorted(set(range(total)) - set(begins.tolist()))
    assert windows.tokens == len(targets)
    for inputs, row in pairs:
        assert torch.equal(row, inputs + 1)  # in one piece
        assert not set(row.tolist()) & set(begins.tolist())


@pytest.mark.parametrize(
    ("vocab_size", "dtype"), [(2, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "uint32")]
)
def test_ids_take_the_smallest_type_that_holds_them(vocab_size: int, dtype: str) -> None:
    array = as_token_array([0, vocab_size - 1], vocab_size)
    assert array.dtype == dtype
    assert array.tolist() == [0, vocab_size - 1]


# --- text --------------------------------------------------------------------------------------------------------


def test_several_files_and_folders_are_joined_in_order(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "b.txt").write_text("two\n", encoding="utf-8")
    (tmp_path / "folder" / "inner" / "c.md").write_text("three", encoding="utf-8")
    (tmp_path / "folder" / "ignored.bin").write_bytes(b"\x00")
    (tmp_path / "a.txt").write_text("one", encoding="utf-8")
    assert read_text(DataConfig(source=[str(tmp_path / "a.txt"), str(tmp_path / "folder")])) == "one\ntwo\nthree"


def test_byte_order_mark_and_windows_newlines_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert read_text(DataConfig(source=[str(tmp_path / "a.txt")])) == "one\ntwo\n"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("é\n".encode())))
    with standard_input(["-"]) as path:
        assert read_text(DataConfig(source=["-"]), path) == "é\n"
    with standard_input(["pooh"]) as path:
        assert path is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"abc\x00def", "binary file.*position 3"),
        (b"caf\xe9", "not UTF-8.*0xe9 at position 3"),
        (b"\xff\xfea\x00", "UTF-16"),
    ],
)
def test_what_is_no_text_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_text(DataConfig(source=[str(path)]))


def test_missing_sources(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"did you mean 'shakespeare'\?"):
        read_text(DataConfig(source=["shakespear"]))
    with pytest.raises(UserError, match=r"no such file or folder$"):
        read_text(DataConfig(source=[str(tmp_path / "nothing.txt")]))
    with pytest.raises(UserError, match="no text files in this folder"):
        read_text(DataConfig(source=[str(tmp_path)]))


# --- corpora -----------------------------------------------------------------------------------------------------


def test_the_python_reference_is_always_there() -> None:
    text = python_reference()
    assert len(text) > 300_000
    assert text == python_reference()
    assert "lambda" in text


@pytest.mark.parametrize("name", CORPORA)
def test_named_corpora(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = corpus_or_skip(name)
    assert corpus_file(name) == path
    text = read_text(DataConfig(source=[name]))
    assert (
        len(set(text))
        == CORPORA[name].distinct_characters
        == vocabulary_size(TokenizerConfig(kind="char"), DataConfig(source=[name]))
    )


def test_shakespeare_is_split_as_everyone_does() -> None:
    corpus_or_skip("shakespeare")
    tokens = open_tokens(DataConfig(source=["shakespeare"]), TokenizerConfig(kind="char"))
    assert (len(tokens.split("train").ids), len(tokens.split("val").ids)) == (1_003_854, 111_540)


def test_another_text_under_a_corpus_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / CORPORA["pooh"].filename).write_text("not Pooh", encoding="utf-8")
    monkeypatch.setenv("GLASSGPT_DATA", str(tmp_path))
    with pytest.raises(UserError, match="SHA-256 differs"):
        read_text(DataConfig(source=["pooh"]))


def test_where_nothing_can_be_fetched_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLASSGPT_DATA", raising=False)
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path))
    monkeypatch.setattr(
        "requests.Session.request", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("no network"))
    )
    monkeypatch.setattr("requests.get", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("no network")))
    with pytest.raises(UserError, match=r"put it as tinyshakespeare.txt into a folder.*GLASSGPT_DATA"):
        read_text(DataConfig(source=["shakespeare"]))


def test_a_fetched_corpus_is_checked_and_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a server on this machine: fetched once, then found in the cache; another text is refused."""
    import dataclasses
    import functools
    import hashlib
    import http.server
    import threading

    served = tmp_path / "served"
    served.mkdir()
    (served / "text.txt").write_text("hello\n", encoding="utf-8")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=served))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        digest = hashlib.sha256(b"hello\n").hexdigest()
        url = f"http://127.0.0.1:{server.server_port}/text.txt"
        corpus = dataclasses.replace(CORPORA["pooh"], url=url, sha256=digest, filename="text.txt")
        monkeypatch.setitem(CORPORA, "pooh", corpus)
        monkeypatch.delenv("GLASSGPT_DATA", raising=False)
        monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "cache"))
        assert read_text(DataConfig(source=["pooh"])) == "hello\n"
        (served / "text.txt").write_text("other\n", encoding="utf-8")
        assert read_text(DataConfig(source=["pooh"])) == "hello\n"
        monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "empty cache"))
        with pytest.raises(UserError, match="is another text"):
            read_text(DataConfig(source=["pooh"]))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
