"""The commands around tokens as a user meets them: tokenizer, prepare, compare, and training on what they make."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from glassgpt.data.corpora import python_reference
from glassgpt.runs import read_metrics
from glassgpt.tokenizers import BPETokenizer, load_tokenizer
from glassgpt.tokenizers.bpe import BYTES
from tests.conftest import SMALL, TEXT, call, command

OTHER = "a dog and a cat; the mat!\n" * 80


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.txt"
    path.write_text(python_reference()[:40_000], encoding="utf-8")
    return path


@pytest.fixture
def bpe(reference: Path, tmp_path: Path) -> Path:
    assert call("tokenizer", "train", reference, "--vocab-size", 400, "--out", tmp_path / "bpe.json") == 0
    return tmp_path / "bpe.json"


def test_a_tokenizer_is_made_and_used(bpe: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = "the expression 🎉\n  yields"
    assert call("tokenizer", "encode", bpe, text) == 0
    ids = capfd.readouterr().out
    assert [int(word) for word in ids.split()] == load_tokenizer(bpe).encode_by_hand(text)  # type: ignore[attr-defined]
    assert call("tokenizer", "decode", bpe, *ids.split()) == 0
    assert capfd.readouterr().out == text
    piped = command("tokenizer", "encode", bpe, stdin=text.encode())
    assert piped.stdout.decode() == ids
    assert command("tokenizer", "decode", bpe, stdin=piped.stdout).stdout.decode() == text


def test_special_tokens_only_when_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    assert call("tokenizer", "encode", "byte", "a<|endoftext|>") == 0
    assert capfd.readouterr().out.split() == [str(byte) for byte in b"a<|endoftext|>"]
    assert call("tokenizer", "encode", "byte", "a<|endoftext|>", "--special") == 0
    assert capfd.readouterr().out.split() == ["97", "256"]


def test_the_picture_of_a_tokenizer(bpe: Path, reference: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("tokenizer", "info", bpe, "--data", reference, "--text", "a  b\n東") == 0
    shown = capfd.readouterr().out
    for words in ("bpe", "gpt2", "400", "<|endoftext|> 399", "bytes per token", "longest tokens"):
        assert words in shown, words
    assert r"a|·|·b|⏎" in shown and r"\xe6|\x9d|\xb1" in shown
    assert call("tokenizer", "info", bpe, "--data", reference, "--json") == 0
    facts = json.loads(capfd.readouterr().out)
    assert facts["bytes"] / facts["tokens"] == facts["bytes_per_token"] > 1.5
    assert facts["vocab_size"] == 400 and len(facts["longest_tokens"]) == 12


def test_exported_and_imported_is_the_same(bpe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("tokenizer", "export", bpe, "--out", tmp_path / "tokenizer.json") == 0
    assert call("tokenizer", "import", tmp_path / "tokenizer.json", "--out", tmp_path / "back.json") == 0
    assert load_tokenizer(tmp_path / "back.json").fingerprint == load_tokenizer(bpe).fingerprint


def test_a_run_on_a_prepared_folder_is_the_same_as_on_the_text(
    bpe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    assert call("prepare", tmp_path / "text.txt", "--tokenizer", bpe, "--out", tmp_path / "tokens") == 0
    assert "glassgpt train --data" in capfd.readouterr().out
    assert call("train", "--data", tmp_path / "tokens", "--out", tmp_path / "one", *SMALL) == 0
    options = ("--tokenizer.file", bpe, "--tokenizer.kind", "bpe")
    assert call("train", "--data", tmp_path / "text.txt", *options, "--out", tmp_path / "two", *SMALL) == 0
    rows = [
        [(row["step"], row["bytes"], row["train_loss"], row["val_bits_per_byte"]) for row in read_metrics(file)]
        for file in (tmp_path / "one" / "metrics.jsonl", tmp_path / "two" / "metrics.jsonl")
    ]
    assert rows[0] == rows[1]
    capfd.readouterr()
    results = []
    for run in ("one", "two"):
        assert call("evaluate", tmp_path / run, "--json") == 0
        results.append(json.loads(capfd.readouterr().out))
    assert results[0] == results[1]
    summary = json.loads((tmp_path / "one" / "summary.json").read_text(encoding="utf-8"))
    assert results[0]["bits_per_byte"] == pytest.approx(summary["bits_per_byte"], rel=1e-5)
    assert call("evaluate", tmp_path / "one", "--data", tmp_path / "tokens", "--json") == 0
    assert json.loads(capfd.readouterr().out)["loss"] == results[0]["loss"]
    assert call("train", "--data", tmp_path / "tokens", *SMALL, "--tokenizer.kind", "byte") == 2
    assert "has its tokenizer" in capfd.readouterr().err
    # Its recipe makes it again, and it goes on.
    assert call("train", tmp_path / "one" / "recipe.toml", "--out", tmp_path / "again") == 0
    assert call("train", "--resume", tmp_path / "one", "--training.max-steps", 14) == 0


def test_a_recipe_does_not_take_a_folder_that_was_prepared_anew_with_another_tokenizer(
    text_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tokens, run = tmp_path / "tokens", tmp_path / "run"
    share = ("--val-fraction", 0.2)
    assert call("prepare", text_file, "--tokenizer", "bpe", "--vocab-size", 270, *share, "--out", tokens) == 0
    assert call("train", "--data", tokens, "--out", run, *SMALL) == 0  # the share is the folder's
    shutil.rmtree(tokens)
    assert call("prepare", text_file, "--tokenizer", "byte", *share, "--out", tokens) == 0
    for words in (["train", run / "recipe.toml", "--out", tmp_path / "again"], ["evaluate", run]):
        capfd.readouterr()
        assert call(*words) == 2
        assert re.search("another tokenizer", capfd.readouterr().err)
    # Another text for the same recipe: what it says of its old tokenizer does not hold.
    (tmp_path / "other.txt").write_text(OTHER, encoding="utf-8")
    assert call("train", run / "recipe.toml", "--data", tmp_path / "other.txt", "--out", tmp_path / "other") == 0


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_other_tokenizers_train_generate_and_go_on(
    kind: str, text_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    options = ["--tokenizer.kind", kind, *(["--tokenizer.vocab-size", "270"] if kind == "bpe" else [])]
    assert call("train", "--data", text_file, "--out", run, *SMALL, *options) == 0
    assert call("generate", run, "--prompt", "the cat", "--max-new-tokens", 5, "--seed", 1) == 0
    assert call("train", "--resume", run, "--training.max-steps", 14) == 0
    assert call("evaluate", run) == 0


def test_standard_input_is_prepared_too(tmp_path: Path) -> None:
    done = command("prepare", "-", "--tokenizer", "byte", "--out", tmp_path / "tokens", stdin=TEXT.encode())
    assert done.returncode == 0, done.stderr
    assert f"{len(TEXT):,} bytes in 1 document".encode() in done.stdout


def test_windows_stay_within_documents_when_asked_to(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = "".join(json.dumps({"body": text}) + "\n" for text in (TEXT[:200], "short", OTHER[:300], TEXT[:400]))
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    options = ("--data.text-field", "body", "--data.cross-documents", "false", "--tokenizer.kind", "byte")
    run = tmp_path / "run"
    assert call("train", "--data", tmp_path / "rows.jsonl", "--out", run, *SMALL, *options) == 0
    capfd.readouterr()
    assert call("evaluate", run, "--json") == 0
    result = json.loads(capfd.readouterr().out)
    assert (
        result["tokens"] == result["bytes"] == 90
    )  # the last tenth of 906, one document: all of it but its first byte


def test_runs_are_compared(trained_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = trained_run.parent / "text.txt"
    bpe = ("--tokenizer.kind", "bpe", "--tokenizer.vocab-size", 270)
    assert call("train", "--data", text, "--out", tmp_path / "pairs", *SMALL, *bpe) == 0
    capfd.readouterr()
    picture = tmp_path / "compare.png"
    assert call("compare", trained_run, tmp_path / "pairs", "--out", picture) == 0
    shown = capfd.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert re.search(r"pairs +│ bpe +│ +270 ", shown) and re.search(r"run +│ char ", shown)
    assert "not judged on the same text" not in shown
    assert call("compare", trained_run, tmp_path / "pairs", "--json") == 0
    rows = {row["run"]: row for row in json.loads(capfd.readouterr().out)}
    for path in (trained_run, tmp_path / "pairs"):
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
        assert rows[path.name]["bits_per_byte"] == pytest.approx(summary["bits_per_byte"], rel=1e-9)
        assert rows[path.name]["parameters"] == summary["parameters"]


def test_a_comparison_says_what_does_not_compare(
    trained_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.txt").write_text(OTHER, encoding="utf-8")
    assert call("train", "--data", tmp_path / "other.txt", "--out", tmp_path / "other", *SMALL) == 0
    shutil.copytree(trained_run, tmp_path / "stopped")
    (tmp_path / "stopped" / "summary.json").unlink()
    shutil.copytree(trained_run, tmp_path / "more")
    (tmp_path / "more" / "checkpoints" / "step-00000013").mkdir()  # given more steps: the summary is an older one
    capfd.readouterr()
    picture = tmp_path / "compare.png"
    assert (
        call("compare", trained_run, tmp_path / "other", tmp_path / "stopped", tmp_path / "more", "--out", picture) == 0
    )
    shown = capfd.readouterr().out
    assert "not judged on the same text" in shown
    assert "stopped: not finished, or interrupted, at step 12" in shown
    assert "more: not finished" in shown
    assert "run: not finished" not in shown


def test_a_text_from_a_pipe_is_read_as_files_are(bpe: Path) -> None:
    plain = command("tokenizer", "encode", bpe, stdin=b"one\ntwo")
    assert plain.returncode == 0 and plain.stdout
    assert command("tokenizer", "encode", bpe, stdin=b"\xef\xbb\xbfone\r\ntwo").stdout == plain.stdout
    assert command("tokenizer", "encode", bpe, "\ufeffone\r\ntwo").stdout == plain.stdout


def test_what_a_tokenizer_file_holds_does_not_steer_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    BPETokenizer([*BYTES, b"\x1b[", b"ab"], r"a|." + "|\x1b", ["\x1b[31m[/red]", "<s>"]).save(tmp_path / "t.json")
    assert call("tokenizer", "info", tmp_path / "t.json", "--text", "ab \x1b[2J\x00") == 0
    shown = capfd.readouterr().out
    assert "\x1b" not in shown and "\x00" not in shown and "[/red]" in shown


def test_odd_files_as_tokenizers_are_refused_in_one_line(
    trained_run: Path, bpe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = json.loads(bpe.read_text(encoding="utf-8"))
    (tmp_path / "bom.json").write_text("\ufeff" + json.dumps(good), encoding="utf-8")
    assert call("tokenizer", "info", tmp_path / "bom.json") == 0
    assert call("tokenizer", "info", trained_run) == 0
    assert call("tokenizer", "export", bpe, "--out", tmp_path / "hf.json") == 0
    capfd.readouterr()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "deep").write_text("[" * 100_000, encoding="utf-8")
    (tmp_path / "long").write_text(json.dumps(good | {"tokens": [*good["tokens"], "q" * 600_000]}), encoding="utf-8")
    (tmp_path / "kind").write_text(json.dumps(good | {"kind": "x" * 100_000}), encoding="utf-8")
    (tmp_path / "pattern").write_text(json.dumps(good | {"pattern": "(?:(?:a{1000}){1000}){1000}"}), encoding="utf-8")
    for name, message in {
        "pipe": "a pipe",
        "zero": "a device",
        "deep": "nested too deep",
        "long": "not made of two earlier",
        "kind": "unknown kind",
        "pattern": "repeats",
        "hf.json": "glassgpt tokenizer import",
        ".": "no tokenizer.json in this folder",
    }.items():
        assert call("tokenizer", "info", tmp_path / name) == 2, name
        error = capfd.readouterr().err
        assert message in error and error.count("\n") == 1 and len(error) < 600, error
