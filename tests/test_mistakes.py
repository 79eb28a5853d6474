"""Mistaken commands are answered in one line with the command that was meant, and that command works."""

import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glassgpt.cli import options
from glassgpt.cli.main import make_app, parse
from glassgpt.cli.mistakes import Mistake
from glassgpt.errors import UserError
from tests.conftest import SMALL, TEXT, call

APP = make_app()
CASES = {
    # train: something else than a recipe
    "train my.txt": "train --data my.txt",
    "train ./my.txt": "train --data ./my.txt",
    "train notes/": "train --data notes/",
    "train '*.txt'": "train --data '*.txt'",
    "train my.txt notes/a.txt": "train --data my.txt --data notes/a.txt",
    "train python-reference": "train --data python-reference",
    "train runs/default": "train runs/default/recipe.toml",
    "train runs/half": "train --resume runs/half",
    "train runs": "train runs/default/recipe.toml",
    "train runs/default/model.safetensors": "train runs/default/recipe.toml",
    "train runs/defualt": "train runs/default/recipe.toml",
    "train shakespear-cpu": "train shakespeare-cpu",
    "train gpt2": "train gpt2-124m",
    # train: options by other names, or without their section
    "train --max-steps 10": "train --training.max-steps 10",
    "train --max_steps=10": "train --training.max-steps 10",
    "train --training.steps 10": "train --training.max-steps 10",
    "train --steps 10": "train --training.max-steps 10",
    "train --epochs 1": "train --training.epochs 1",
    "train --lr 1e-3": "train --training.learning-rate 1e-3",
    "train --batch-size 3": "train --training.batch-size 3",
    "train --model.batch-size 3": "train --training.batch-size 3",
    "train --layers 2": "train --model.n-layer 2",
    "train --model.layers 2": "train --model.n-layer 2",
    "train --n_layer 2": "train --model.n-layer 2",
    "train --context-length 16": "train --model.block-size 16",
    "train --tokenizer bpe": "train --tokenizer.kind bpe",
    "train --tokenizer tokens.json": "train --tokenizer.file tokens.json",
    "train --vocab-size 300": "train --tokenizer.vocab-size 300",
    "train --model gpt2": "train gpt2-124m",
    "train --gpu": "train --training.device cuda",
    "train --device cpu": "train --training.device cpu",
    "train --input my.txt -o runs/new": "train --data my.txt -o runs/new",
    "train -o runs/new": "train --out runs/new",
    "train --wandb": "train --track wandb",
    # runs
    "train --resume": "train --resume runs/default",
    "train --resume defualt": "train --resume runs/default",
    "generate runs/defualt": "generate runs/default",
    "generate default": "generate runs/default",
    "generate runs": "generate runs/default",
    "generate runs/default/model.safetensors": "generate runs/default",
    "generate runs/default/recipe.toml": "generate runs/default",
    "generate runs/default/checkpoints": "generate runs/default",
    "generate --run runs/default": "generate runs/default",
    "generate": "generate runs/default",
    "generate my.txt": "train --data my.txt",
    "generate my.toml": "train my.toml",
    "generate tokens.json": "tokenizer info tokens.json",
    "play runs/defualt": "play runs/default",
    "evaluate runs/defualt": "evaluate runs/default",
    "compare runs/defualt runs/default": "compare runs/default runs/default",
    "plot runs/defualt": "plot runs/default",
    "inspect runs/defualt --prompt the --out x": "inspect runs/default --prompt the --out x",
    "info runs/defualt": "info runs/default",
    "info gpt3": "info gpt2",
    # options and words of generate
    "generate runs/default -p the": "generate runs/default --prompt the",
    "generate runs/default the cat": "generate runs/default --prompt 'the cat'",
    "generate runs/default --temp 1": "generate runs/default --temperature 1",
    "generate runs/default --sampling.top-k 3": "generate runs/default --top-k 3",
    "generate runs/default --max-tokens 5": "generate runs/default --max-new-tokens 5",
    "generate runs/default --cpu": "generate runs/default --device cpu",
    "evaluate runs/default my.txt": "evaluate runs/default --data my.txt",
    # commands by other names
    "chat": "play runs/default",
    "chat runs/default": "play runs/default",
    "sample runs/default": "generate runs/default",
    "Generate runs/default": "generate runs/default",
    "eval runs/default": "evaluate runs/default",
    "resume runs/half": "train --resume runs/half",
    "resume": "train --resume runs/default",
    "encode byte the": "tokenizer encode byte the",
    "runs/default": "generate runs/default",
    "runs/defualt": "generate runs/default",
    "my.txt": "train --data my.txt",
    "notes/": "train --data notes/",
    "my.toml": "train my.toml",
    "default": "train default",
    "gpt2": "info gpt2",
    "help": "--help",
    "help train": "train --help",
    "version": "--version",
    "--data my.txt": "train --data my.txt",
    "recipes gpt2-124m": "info gpt2-124m",
    "tokenizer my.txt": "tokenizer train my.txt --out tokenizer.json",
    "tokenizer runs/default": "tokenizer info runs/default",
    "tokenizer inf byte": "tokenizer info byte",
}


@pytest.fixture(scope="module")
def folder(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to work in: texts, a recipe, a tokenizer, a finished run and one that is not."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "my.txt").write_text(TEXT, encoding="utf-8")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text(TEXT, encoding="utf-8")
    (folder / "my.toml").write_text(f"[data]\nsource = ['{folder / 'my.txt'}']\n[training]\nmax_steps = 2\n")
    for name in ("half", "default"):  # the latter is newer
        shutil.copytree(trained_run, folder / "runs" / name)
    (folder / "runs" / "half" / "summary.json").unlink()
    shutil.copy(trained_run / "tokenizer.json", folder / "tokens.json")
    return folder


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, to be changed."""
    shutil.copytree(folder, tmp_path / "here")
    os.utime(tmp_path / "here" / "runs" / "half", (1, 1))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def answer(words: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    assert call(*words) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("glassgpt: ") and shown.err.count("\n") == 1, shown.err
    return shown.err.removesuffix("\n")


@pytest.mark.parametrize("line", CASES)
def test_the_command_that_was_meant_is_at_the_end_of_the_line(
    line: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = sorted(here.rglob("*"))
    said = answer(shlex.split(line), capfd)
    assert said.partition("Did you mean: ")[2] == f"glassgpt {CASES[line]}", said
    assert sorted(here.rglob("*")) == before


# What was meant may be on its way to something else that is wrong, or take a machine or a text that is not here.
ELSEWHERE = ("gpt2-124m", "cuda", "shakespeare", "--track", "-o ")
ON_ITS_WAY = {"train --resume runs/default": "finished at step 12", "train --resume runs/half": "finished at step 12"}


def small(words: list[str], here: Path) -> list[str]:
    """A command with a small text and tiny settings."""
    if words[0] == "train" and "--help" not in words:
        if "--resume" in words:
            return words
        if len(words) == 3 and words[1].startswith(("--training.", "--model.")):
            return ["info", "default", *words[1:]]  # which reads the same recipe
        has_text = "--data" in words or any("toml" in word for word in words)
        given = {word for word in words if word.startswith("--")}
        few = [(option, value) for option, value in zip(SMALL[::2], SMALL[1::2], strict=True) if option not in given]
        text = [] if has_text else ["--data", str(here / "my.txt")]
        return [*words, *text, *(word for pair in few for word in pair)]
    if words[0] == "generate" and "--prompt" not in words:
        return [*words, "--prompt", "the"]
    return [*words, "--no-pictures"] if words[0] == "inspect" else words


@pytest.mark.parametrize("meant", sorted({line for line in CASES.values() if not any(e in line for e in ELSEWHERE)}))
def test_the_command_that_was_meant_works(
    meant: str, here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    code = call(*small(shlex.split(meant), here))
    said = capfd.readouterr().err
    if meant in ON_ITS_WAY and code:
        assert ON_ITS_WAY[meant] in said
    else:
        assert code == 0, said


# --- what is printed ---------------------------------------------------------------------------------------------

TEXTS = {
    "words": (TEXT, []),
    "word tokens": (TEXT, ["--tokenizer.kind", "word"]),
    "Chinese, no spaces, one line": ("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏" * 60, []),
    "quotes": ("\"it's\" 'so' $HOME `ls` !x \\n " * 90, []),
    "signs": ("-- == -- ++ ?! " * 200, []),
}


def printed_commands(said: str) -> Iterator[list[str]]:
    for line in said.splitlines():
        if found := re.match(r"\s+(glassgpt .*?)(\s{2,}#.*)?$", line):
            yield shlex.split(found[1])[1:]


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_that_training_prints_works(name: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text, options = TEXTS[name]
    (here / "it's a text.txt").write_text(text, encoding="utf-8")
    run = "runs/it's $1"
    assert call("train", "--data", "it's a text.txt", "--out", run, *SMALL, *options) == 0
    commands = list(printed_commands(capfd.readouterr().out))
    assert len(commands) >= 3
    for words in commands:
        if words[0] != "train" or name == "words":  # that one is always the same
            assert call(*small(words, here)) == 0, (words, capfd.readouterr().err)


def test_every_command_that_preparing_prints_works(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("prepare", "my.txt", "--out", "my $tokens", "--tokenizer", "byte") == 0
    commands = list(printed_commands(capfd.readouterr().out))
    assert len(commands) == 1
    assert call(*small(commands[0], here)) == 0, capfd.readouterr().err


# --- any command line --------------------------------------------------------------------------------------------


def option_names(chain: tuple[str, ...]) -> list[str]:
    return [name for name in Mistake(APP, chain).options() if name.startswith("--")]


CHAINS = [
    *(("train",), ("generate",), ("play",), ("evaluate",), ("compare",), ("plot",), ("inspect",), ("prepare",)),
    *(("info",), ("recipes",), ("tokenizer", "train"), ("tokenizer", "info"), ("bench", "train"), ("bench",)),
]


LONG = {chain: names for chain in CHAINS if (names := [n for n in option_names(chain) if len(n) > 7])}


@given(st.data())
@settings(max_examples=100)
def test_an_option_with_a_typing_error_is_recognised(data: st.DataObject) -> None:
    """A letter that is missing or doubled: if anything is suggested, it is an option of that command."""
    chain = data.draw(st.sampled_from(sorted(LONG)))
    option = data.draw(st.sampled_from(LONG[chain]))
    place = data.draw(st.integers(3, len(option) - 1))
    wrong = option[:place] + data.draw(st.sampled_from(["", option[place] * 2])) + option[place + 1 :]
    if wrong in option_names(chain):
        return
    said = Mistake(APP, [*chain, wrong, "5"]).unknown_option(wrong)
    assert said.startswith(f"unknown option {wrong}")
    meant = shlex.split(said.partition("Did you mean: ")[2])
    assert meant[: 1 + len(chain)] == ["glassgpt", *chain], said
    assert meant[1 + len(chain)] in option_names(chain), said


WORDS = st.one_of(
    st.sampled_from([word for chain in CHAINS for word in chain]),
    st.sampled_from([name for chain in CHAINS for name in option_names(chain)]),
    st.text(max_size=8),
    st.text("-=.~/[]()$\\\"'\x00\x1b\n09ae", max_size=8),
    st.sampled_from(["--", "-", "-x", "--x=", "=", "--training.max-steps=" + "9" * 5000, "a" * 5000, "--debug"]),
    st.integers().map(str),
)


@given(st.sampled_from([(), ("tokenizer",), ("bench",), *CHAINS]), st.lists(WORDS, max_size=5))
@example(("tokenizer",), ["-ecode"])
@settings(max_examples=200)
def test_any_words_are_a_command_or_one_line(chain: tuple[str, ...], words: list[str]) -> None:
    """Parsing, and answering what cannot be parsed, raises nothing but `UserError`, and says it shortly."""
    try:
        parse(make_app(), [*chain, *words])
    except UserError as error:
        assert str(error)
        assert len(str(error)) < 1200 or any(len(word) > 300 for word in words)


@given(st.one_of(st.text(max_size=30), st.integers().map(str), st.integers(1, 6000).map(lambda n: "9" * n)))
def test_a_number_is_finite_and_bounded_or_refused(word: str) -> None:
    for read in (options.whole_number, options.number):
        try:
            found = read(word)
        except options.WrongValueError as error:
            assert len(str(error)) < 100
        else:
            assert found == float(word) or abs(found - float(word)) <= abs(found) * 1e-15
            assert -float("inf") < found < float("inf")
            assert read is options.number or abs(found) < options.MOST
