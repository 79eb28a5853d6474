"""Whatever a user can get wrong: one line that names the thing and the mend, exit code 2, and nothing lost."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SMALL, TEXT, call, command

Words = list[object]
CASES: dict[str, tuple[Callable[[Path], Words], str]] = {}


def case(name: str, message: str) -> Callable[[Callable[[Path], Words]], None]:
    """Register a case: from a folder with text.txt and a trained run, the words of the command."""

    def register(make: Callable[[Path], Words]) -> None:
        CASES[name] = (make, message)

    return register


def text_of(content: bytes) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        (folder / "bad.txt").write_bytes(content)
        return ["train", "--data", folder / "bad.txt", "--out", folder / "out", *SMALL]

    return make


def training(*options: object) -> Callable[[Path], Words]:
    return lambda folder: ["train", "--data", folder / "text.txt", "--out", folder / "out", *SMALL, *options]


def generating(*options: object) -> Callable[[Path], Words]:
    return lambda folder: ["generate", folder / "run", *options]


def damaged(file: str, content: bytes | None, *words: object) -> Callable[[Path], Words]:
    """A run folder in which one file is gone or has another content."""

    def make(folder: Path) -> Words:
        if content is None:
            (folder / "run" / file).unlink()
        else:
            (folder / "run" / file).write_bytes(content)
        return [words[0], folder / "run", *words[1:]]

    return make


for _name, _make, _message in [
    # the command line itself
    ("unknown command", lambda f: ["trian"], "Did you mean"),
    ("unknown option", training("--ouut", "x"), "unknown option --ouut, did you mean --out"),
    ("too many words", lambda f: ["info", "gpt2", "gpt2-xl"], "gpt2-xl"),
    ("a word is missing", lambda f: ["generate"], "RUN"),
    ("a value is missing", lambda f: ["train", "--out"], "--out"),
    ("a field's value is missing", training("--training.max-steps"), "--training.max-steps: a value is missing"),
    ("unknown section", training("--trainin.max-steps", 5), "did you mean --training.max-steps"),
    ("unknown field", training("--training.max-stepz", 5), "did you mean --training.max-steps"),
    (
        "a field where none belongs",
        lambda f: ["generate", f / "run", "--model.n-layer", 2],
        "only train, info and bench",
    ),
    # recipes
    ("unknown recipe", lambda f: ["train", "shakespear-char"], "Did you mean: glassgpt train shakespeare-char$"),
    ("unknown model", lambda f: ["info", "gpt3"], "Did you mean: glassgpt info gpt2$"),
    (
        "a recipe that is a folder",
        lambda f: ["train", f],
        "a folder of runs, not a recipe. Did you mean: glassgpt train .*run/recipe.toml",
    ),
    # values
    ("a word for a number", training("--training.max-steps", "many"), "training.max_steps.*'many'"),
    ("a fraction of a step", training("--training.max-steps", "1.5"), "training.max_steps"),
    ("no steps", training("--training.max-steps", 0), "training.max_steps.*greater than or equal to 1"),
    ("a negative learning rate", training("--training.learning-rate", -1), "training.learning_rate.*greater than 0"),
    ("not a number", training("--training.learning-rate", "nan"), "training.learning_rate.*finite"),
    ("heads that do not divide the width", training("--model.n-head", 5), "n_head 5 does not divide n_embd 32"),
    ("key/value heads that do not divide", training("--model.n-head", 4, "--model.n-kv-head", 3), "n_kv_head 3"),
    ("unknown activation", training("--model.activation", "gelo"), "model.activation.*'gelo'"),
    ("dropout of everything", training("--model.dropout", 1), "model.dropout.*less than 1"),
    ("too small a vocabulary", training("--model.vocab-size", 3), "model.vocab_size 3 is less than the tokenizer's"),
    ("a device that is no device", training("--training.device", "gpu"), "unknown device 'gpu': auto, cpu, cuda"),
    ("a device that is not there", training("--training.device", "cuda:77"), "cuda"),
    ("float16 on a CPU", training("--training.precision", "float16"), "float16: not on a CPU"),
    ("no end", training("--training.max-steps", "none"), "set max_steps or epochs"),
    ("patience without validation", training("--training.patience", 2, "--data.val-fraction", 0), "patience"),
    ("a split of everything", training("--data.val-fraction", 1), "data.val_fraction.*less than 1"),
    ("an upside-down schedule", training("--training.min-learning-rate", 1), "min_learning_rate 1.0 is above"),
    ("a prompt for samples that cannot be", training("--sampling.prompt", "ß"), "'ß'"),
    # texts
    ("a file that is not there", lambda f: ["train", "--data", f / "no.txt"], "no such file or folder"),
    ("a corpus that is not there", lambda f: ["train", "--data", "poo"], "did you mean 'pooh'"),
    ("a folder without text", lambda f: ["train", "--data", f / "run" / "checkpoints"], "no text files"),
    ("an empty file", text_of(b""), "empty"),
    ("a binary file", text_of(b"abc\x00"), "binary"),
    ("another encoding", text_of("café au lait, garçon ".encode("latin-1") * 50), "not UTF-8"),
    ("UTF-16", text_of("hello".encode("utf-16")), "UTF-16"),
    ("a text shorter than a block", text_of(b"hello, hello"), "one window takes 17"),
    ("a validation split of nothing", training("--data.val-fraction", 0.0001), "validation split has 1 tok"),
    # run folders
    ("a run folder that exists", lambda f: [*training()(f)[:4], f / "run"], "holds a run already.*--resume"),
    ("a folder of something else", lambda f: [*training()(f)[:4], f], "not an empty folder"),
    ("a file where the folder should be", lambda f: [*training()(f)[:4], f / "text.txt"], "not an empty folder"),
    ("resuming nothing", lambda f: ["train", "--resume", f / "nothing"], "no such run folder"),
    ("resuming what is no run", lambda f: ["train", "--resume", f], "not a run folder"),
    ("resuming what is finished", lambda f: ["train", "--resume", f / "run"], "finished at step 12"),
    ("resuming with a recipe", lambda f: ["train", "default2", "--resume", f / "run"], "leave out RECIPE"),
    ("resuming another model", lambda f: ["train", "--resume", f / "run", "--model.n-layer", 3], "cannot change"),
    ("generating from nothing", lambda f: ["generate", f / "nothing", "--prompt", "x"], "no such run folder"),
    ("a recipe that is gone", damaged("recipe.toml", None, "generate", "--prompt", "the"), "not a run folder"),
    ("a recipe that is damaged", damaged("recipe.toml", b"[model", "generate", "--prompt", "the"), "not readable as"),
    ("a recipe of nonsense", damaged("recipe.toml", b"[model]\nn_hed = 2", "evaluate"), "did you mean 'n_head'"),
    ("a tokenizer that is gone", damaged("tokenizer.json", None, "generate", "--prompt", "the"), "no such file"),
    ("a tokenizer that is damaged", damaged("tokenizer.json", b"{", "evaluate"), "not readable"),
    ("weights that are gone", damaged("model.safetensors", None, "generate", "--prompt", "the"), "no such file"),
    ("weights that are damaged", damaged("model.safetensors", b"\x05" * 99, "evaluate"), "damaged"),
    (
        "a text that has changed",
        lambda f: [(f / "text.txt").write_text("new" * 99), "evaluate", f / "run"][1:],
        "SHA-256",
    ),
    ("a device's name for generating", generating("--prompt", "the", "--device", "gpu"), "unknown device 'gpu'"),
    ("a device's name for evaluating", lambda f: ["evaluate", f / "run", "--device", ""], "unknown device ''"),
    ("no name for a text", lambda f: ["train", "--data", "", *SMALL], "empty name"),
    ("no vocabulary", lambda f: ["info", "gpt2", "--model.vocab-size", "none"], "model.vocab_size is not set"),
    ("a seed too large", training("--training.seed", 2**64), "training.seed"),
    ("a batch too large", training("--training.batch-size", 10**11), "training.batch_size"),
    ("a width too large", training("--model.n-embd", 10**10 + 1), "model.n_embd"),
    ("too many parts", training("--training.gradient-accumulation", 10**11), "training.gradient_accumulation"),
    ("too much text wanted", generating("--prompt", "the", "--max-new-tokens", 10**14), "max_new_tokens"),
    ("a field of a model alone", lambda f: ["info", "gpt2", "--training.batch-size", 5], "training.batch_size: gpt2"),
    ("a wrong field of a run", lambda f: ["info", f / "run", "--training.batch-size", "foo"], "training.batch_size"),
    ("a run that goes on with another text", lambda f: ["train", "--resume", f / "run", "--data", "-"], "--data=-"),
    # tokenizers
    ("a tokenizer of nothing", lambda f: ["tokenizer", "train", "--out", f / "t.json"], "name a text"),
    ("a tokenizer that is there", lambda f: ["tokenizer", "train", f / "text.txt", "--out", f / "text.txt"], "already"),
    ("a tokenizer nowhere", lambda f: ["tokenizer", "train", f / "text.txt", "--out", f / "a" / "t"], "no such folder"),
    (
        "a vocabulary below the bytes",
        lambda f: ["tokenizer", "train", f / "text.txt", "--vocab-size", 200, "--out", f / "t.json"],
        "vocab_size 200: a bpe tokenizer has 257 entries before it learns",
    ),
    (
        "a pattern that is none",
        lambda f: ["tokenizer", "train", f / "text.txt", "--pattern", "(", "--out", f / "t.json"],
        "pattern: '\\(' is neither gpt2 nor gpt4",
    ),
    ("a kind that is none", training("--tokenizer.kind", "bpee"), "tokenizer.kind"),
    ("a tokenizer file that is not there", training("--tokenizer.file", "no.json"), "no.json: no such file"),
    ("encoding with nothing", lambda f: ["tokenizer", "encode", f / "no.json", "x"], "no tokenizer"),
    ("encoding with a text", lambda f: ["tokenizer", "encode", f / "text.txt", "x"], "not readable"),
    ("decoding words", lambda f: ["tokenizer", "decode", "byte", "1", "two"], "whole numbers.*'two'"),
    ("decoding what is no id", lambda f: ["tokenizer", "decode", "byte", "-5"], "token id -5 is not in the vocab"),
    ("exporting characters", lambda f: ["tokenizer", "export", f / "run", "--out", f / "t"], "char.*bpe and byte"),
    ("importing a text", lambda f: ["tokenizer", "import", f / "text.txt", "--out", f / "t"], "text.txt"),
    # preparing
    ("preparing nothing", lambda f: ["prepare", "--out", f / "out"], "name a text"),
    (
        "an option of prepare that there is not",
        lambda f: ["prepare", f / "text.txt", "--tokeniser", "byte", "--out", f / "out"],
        "unknown option --tokeniser",
    ),
    (
        "preparing a folder of empty files",
        lambda f: [
            (f / "e").mkdir(),
            (f / "e" / "a.txt").touch(),
            "prepare",
            f / "e",
            "--tokenizer",
            "byte",
            "--out",
            f / "out",
        ][2:],
        "all files are empty",
    ),
    ("preparing nowhere", lambda f: ["prepare", f / "text.txt"], "--out"),
    ("preparing into a run", lambda f: ["prepare", f / "text.txt", "--out", f / "run"], "not an empty folder"),
    ("preparing what is not there", lambda f: ["prepare", f / "no", "--out", f / "out"], "no such tok|no such file"),
    (
        "preparing with a text as a tokenizer",
        lambda f: ["prepare", f / "text.txt", "--tokenizer", f / "text.txt", "--out", f / "out"],
        "not readable as a glassgpt tokenizer",
    ),
    (
        "preparing unknown characters",
        lambda f: [
            (f / "new.txt").write_text("the Cat"),
            *("prepare", f / "new.txt", "--tokenizer", f / "run", "--out", f / "out"),
        ][1:],
        r"'C' \(U\+0043\)",
    ),
    (
        "preparing all for validation",
        lambda f: ["prepare", f / "text.txt", "--tokenizer", "byte", "--val-fraction", 1, "--out", f / "out"],
        "val_fraction.*less than 1",
    ),
    (
        "no workers",
        lambda f: ["prepare", f / "text.txt", "--tokenizer", "byte", "--workers", 0, "--out", f / "out"],
        "--workers 0",
    ),
    (
        "training on a damaged folder",
        lambda f: [(f / "header.json").write_text("{}"), "train", "--data", f, "--out", f / "out"][1:],
        "header.json: not the header of a prepared text",
    ),
    # comparing
    ("comparing nothing", lambda f: ["compare"], "name run folders"),
    ("comparing what is no run", lambda f: ["compare", f / "run", f], "not a run folder"),
    ("a picture nowhere", lambda f: ["compare", f / "run", "--out", f / "a" / "b.png"], "no such folder"),
    (
        "a tokenizer that was exchanged",
        damaged("tokenizer.json", b'{"format": "glassgpt-tokenizer", "version": 1, "kind": "byte"}', "evaluate"),
        "not the tokenizer of this run",
    ),
    # generating and evaluating
    ("an empty prompt", generating("--prompt", ""), "the prompt is empty"),
    ("a prompt longer than the block", generating("--prompt", "the cat sat on the mat"), "--crop-prompt"),
    ("an unknown character", generating("--prompt", "the Cat"), r"'C' \(U\+0043\) at position 4"),
    ("a negative temperature", generating("--prompt", "the", "--temperature", -1), "temperature"),
    ("a temperature that is a word", generating("--prompt", "the", "--temperature", "hot"), "hot"),
    ("half a token", generating("--prompt", "the", "--max-new-tokens", 1.5), "--max-new-tokens 1.5: a whole number"),
    ("no tokens", generating("--prompt", "the", "--max-new-tokens", 0), "max_new_tokens"),
    ("more than all", generating("--prompt", "the", "--top-p", 1.5), "top_p"),
    ("a negative top-k", generating("--prompt", "the", "--top-k", -3), "top_k"),
    ("no samples", generating("--prompt", "the", "--num-samples", 0), "--num-samples 0"),
    ("a negative seed", generating("--prompt", "the", "--seed", -1), "--seed -1"),
    ("greedy and warm", generating("--prompt", "the", "--greedy", "--temperature", 2), "--greedy and --temperature"),
    ("evaluating what cannot be read", lambda f: ["evaluate", f / "run", "--data", f / "no.txt"], "no such file"),
]:
    CASES[_name] = (_make, _message)


@pytest.fixture
def folder(tmp_path: Path, trained_run: Path) -> Path:
    """A text, and a run trained on it, to be used up."""
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    shutil.copytree(trained_run, tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.toml"
    old = str(trained_run.parent / "text.txt").replace("\\", "\\\\")
    new = str(tmp_path / "text.txt").replace("\\", "\\\\")
    recipe.write_text(recipe.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", CASES)
def test_one_line_and_nothing_lost(
    name: str, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, message = CASES[name]
    words = make(folder)
    monkeypatch.chdir(folder)
    before = contents(folder)
    assert call(*words) == 2
    shown = capfd.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == 1, shown.err
    assert lines[0].startswith("glassgpt: ")
    assert re.search(message, lines[0]), lines[0]
    assert shown.out == ""
    assert contents(folder) == before
    assert not (folder / "out").exists()


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 30


def test_a_user_sees_no_traceback(folder: Path) -> None:
    done = command("generate", folder / "run", "--prompt", "the Cat")
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1


def test_an_empty_standard_input_is_an_empty_prompt(folder: Path) -> None:
    done = command("generate", folder / "run", stdin=b"")
    assert done.returncode == 2
    assert b"standard input is empty" in done.stderr
