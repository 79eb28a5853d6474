"""Run command lines that users may type, and those that nobody should, in surroundings of every kind.

    python benchmarks/fuzz_arguments.py [--cases 20000] [--seed 0] [--only N]

Each case takes a valid command line and changes it: words are dropped, doubled, swapped, misspelled; values become
empty, huge, negative, not finite, control characters, names that are not UTF-8, other files. Every third case also
changes the surroundings: environment variables, standard streams that are closed, full, gone, or a terminal. A command
ends with 0, or with 2 and one line, or with 130 after Ctrl-C, and leaves nothing that it was not asked for. Linux only.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzzing import Case, Result, Stage, fuzz, try_case
from fuzzing_checks import MARKER
from fuzzing_child import MEMORY
from fuzzing_seeds import SMALL, make_seed, small_blocks

SEEDS = {  # and what their names begin with
    "texts": ("",),
    "tokenizers": ("bpe", "word", "char", "hf"),
    "run": ("run", "w[/v]"),
    "run-bpe": ("run-bpe",),
    "run-bigram": ("run-bigram",),
    "stopped": ("stopped",),
    "tokens": ("tokens",),
}
SETTINGS = " ".join(SMALL)
COMMANDS = {  # valid ones, and how often
    "--help": 1,
    "--version": 1,
    "train --help": 1,
    "recipes": 1,
    "info run": 3,
    "info gpt2 --model.n-layer 2 --json": 4,
    "info small.toml --json --training.seed 2": 4,
    "info shakespeare-char": 2,
    f"train --data text.txt --out new {SETTINGS}": 3,
    "train small.toml --out new --training.learning-rate 0.1 --training.schedule wsd": 4,
    "train small.toml --training.max-steps 2 --data texts --tokenizer.kind word --data.order epochs --data.stride 4": 3,
    "train small.toml --out new --training.epochs 0.001 --checkpoint-every 5min --watch-gradients 1 --data tokens": 2,
    "train small.toml --data rows.jsonl --data.text-field text --tokenizer.unknown --tokenizer.kind bpe "
    "--tokenizer.vocab-size 270 --model.position rotary --model.activation swiglu --training.optimizer muon": 3,
    "train --resume stopped": 2,
    "train --resume run --training.max-steps 8": 2,
    "generate run --prompt the --max-new-tokens 5 --seed 1": 4,
    "generate run-bpe --prompt the --temperature 1.5 --top-k 5 --top-p 0.9 --min-p 0.01 --typical-p 0.9 "
    "--repetition-penalty 1.1 --stop . --when-full rotate --num-samples 2": 4,
    "generate run --greedy --crop-prompt --mode eager --weights int8 --device cpu --max-new-tokens 20": 3,
    "play run --mode eager": 2,
    "generate run-bigram --prompt the --max-new-tokens 30 --temperature 3 --seed 3": 3,
    "evaluate run --json": 2,
    "evaluate run --data text.txt --weights int8 --device cpu": 3,
    "compare run run-bpe --out c.svg": 2,
    "compare run --json": 2,
    "plot run run-bpe --out p.svg --x tokens --y bits --log-x --log-y --smooth 0.5 --labels a --labels b": 3,
    "plot run --gradients --out g.svg": 1,
    "inspect run --prompt the --out inside --crop-prompt --no-pictures": 3,
    "prepare text.txt texts --out new --tokenizer char --val-fraction 0.2 --workers 1": 3,
    "prepare rows.jsonl --out new --tokenizer bpe --vocab-size 270 --text-field text --separator xx": 3,
    "tokenizer train story.txt --out new.json --vocab-size 280 --pattern gpt4 --special <|user|> --workers 1": 3,
    "tokenizer train texts rows.parquet --out new.json --kind word --min-count 3 --separator xx": 3,
    "tokenizer encode bpe.json hello --special": 3,
    "tokenizer decode bpe.json 1 2 3": 3,
    "tokenizer info char.json --text abc --longest 3": 3,
    "tokenizer info word.json --data texts --json": 3,
    "tokenizer export bpe.json --out new.json": 2,
    "tokenizer import hf.json --out new.json": 2,
    "bench train --shape small.toml --rounds 0": 1,
    "bench generate --rounds 0": 1,
    "bench --threads 0": 1,
}
NUMBERS = (
    "0", "-1", "1", "2", "3", "1.5", "1e3", "1e400", "nan", "inf", "-inf", "0x10", "1_000", "9" * 20,
    "9" * 400, "-" + "9" * 400,
    "1e-400", "0.0000001", "1000000000000", "4294967296", "18446744073709551616", "٣", "١٢", " 1 ", "1,000",
    "+1", "--1", "1e", "½",
)  # fmt: skip
TEXTS = (
    "", " ", "\n", "\t", "a", "none", "true", "-", "--", "---", "-x", "--x", "=", "--=", "~", "~/x",
    "~nobody", "~$memo.txt", "[/v]",
    "w[/v]", "[bold]", "{}", "%s", "\\n", "\\", "$HOME", "`id`", "é", "東京", "🎉", "a\u0301", "\u202e", MARKER,
    "\x07",
    "\udce9", "big\udce9.txt", "x" * 300, "x" * 5000, "a/" * 500, "a,b", "*", "**/*", "[!a", "?", "/dev/zero",
    "/dev/null", "/dev/full",
    "/", ".", "..", "/proc/self/mem", "/dev/stdin", "cuda:99999999999999999999", "cuda:1", "CPU", "cuda",
    "mps", "(a|a)+$", "(", "\\p{L}+",
    "(?:(?:(?:(?:a{1000}){1000}){1000}){1000})", "a" * 1000 + "*", "<|endoftext|>", "none of these", "5min",
    "90s", "0s", "1h1", "gpt2",
)  # fmt: skip
PATHS = (
    "run", "run/", "./run", "run/recipe.toml", "run/model.safetensors", "run/metrics.jsonl", "text.txt",
    "texts", "rows.jsonl", "tokens",
    "rows.parquet", "text.txt.gz", "text.txt.zst", "rows.jsonl.gz", "bpe.json", "word.json", "hf.json",
    "small.toml", "stopped", "new",
    "missing", "missing/x", "text.txt/x", "loop", "dangling", "pipe", "empty", "empty.txt", "folder.txt",
    "weird [1]", "weird [1]/a.txt",
    "a b.txt", "new\nline", "~home", "link-to-run", "deep/a/b/c", "marked.txt", "tokens-char", "default",
    "runs/defualt", "gpt2", "byte",
    f"escape{MARKER}.txt", "texts/*.txt", "texts/**/*", "[a-z]*", "links", "snap.txt",
)  # fmt: skip
TYPED = (
    "/help", "/set", "/set seed", "/set top-k", "/show", "/undo", "/retry", "/save", "/load", "/add", "/text", "/edit",
    "/colour", "/more", "/sav", "/quit", "/", "", "the cat", '"""', "/save text", "/save run/metrics",
    "/load marked.txt",
)  # fmt: skip
ENVIRONMENTS: tuple[dict[str, str | None], ...] = (
    {"HOME": None},
    {"HOME": None, "GLASSGPT_CACHE": None},
    {"GLASSGPT_CACHE": "text.txt"},
    {"GLASSGPT_CACHE": "/dev/null/x"},
    {"GLASSGPT_CACHE": ""},
    {"GLASSGPT_CACHE": "~/cache"},
    {"GLASSGPT_CACHE": None, "HOME": "/dev/null"},
    {"GLASSGPT_CACHE": None, "XDG_CACHE_HOME": "text.txt"},
    {"GLASSGPT_DATA": "missing"},
    {"GLASSGPT_DATA": "text.txt"},
    {"GLASSGPT_DATA": "texts"},
    {"TERM": "dumb"},
    {"TERM": None},
    {"COLUMNS": "1"},
    {"COLUMNS": "0"},
    {"COLUMNS": "x"},
    {"NO_COLOR": "1"},
    {"FORCE_COLOR": "1", "NO_COLOR": "1"},
    {"TMPDIR": "missing"},
    {"TMPDIR": "text.txt"},
    {"OMP_NUM_THREADS": "x"},
    {"EDITOR": "false"},
)
FRESH: tuple[dict[str, str | None], ...] = (
    {"MPLBACKEND": "nosuch"},
    {"MPLBACKEND": "TkAgg"},
    {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1:strict"},
    {"PYTHONWARNINGS": "default"},
    {"MPLCONFIGDIR": "/dev/null/x"},
    {"OMP_NUM_THREADS": "0"},
    {"PYTHONOPTIMIZE": "1"},
)


def trial(stage: Stage, rng: random.Random) -> Result:
    """One command line in one environment."""
    words = rng.choices(list(COMMANDS), list(COMMANDS.values()))[0].split(" ")
    words, what = change_words(rng, words)
    stage.place(seeds_for(words))
    make_odd_files(stage.work)
    case = Case(words, "; ".join(what), patch=small_blocks, patience=4, limit=4 * MEMORY)
    if words[:1] == ["play"]:
        case.stdin, case.writes = play_script(rng), [""]
    elif rng.random() < 0.3:
        case.stdin = rng.choice(
            [b"the", b"the cat\n", b"\xff\xfe", b"\xef\xbb\xbfthe", b"1 2 3\n", b"\n", b"1,x", b"the\r\ncat\r\n", b"\0"]
        )
    if rng.random() < 0.3:
        surround(rng, case)
    return try_case(stage, case)


def seeds_for(words: list[str]) -> list[str]:
    """The valid inputs that a command may find by its words; copying all of them takes longer than most commands."""
    if any(set(word) & set("*?[") or word in (".", "./", "..") or "link" in word for word in words):
        return list(SEEDS)
    return [seed for seed, names in SEEDS.items() if any(name in word for name in names for word in ["", *words])]


def change_words(rng: random.Random, words: list[str]) -> tuple[list[str], list[str]]:
    """A command line with none to three changes."""
    words, what = list(words), []
    for _ in range(rng.choice([0, 1, 1, 1, 1, 2, 2, 3])):
        at = rng.randrange(len(words) + 1)
        how = rng.choice(
            ["value", "value", "value", "value", "drop", "double", "swap", "insert", "typo", "equals", "other"]
        )
        if how in ("value", "drop", "double", "swap", "typo") and at == len(words):
            continue
        if how == "value":
            values = [n for n in range(1, len(words)) if not words[n].startswith("--")]
            at = rng.choice(values) if values else at
            words[at] = any_value(rng)
        elif how == "drop":
            del words[at]
        elif how == "double":
            words.insert(at, words[at])
        elif how == "swap":
            other = rng.randrange(len(words))
            words[at], words[other] = words[other], words[at]
        elif how == "insert":
            words.insert(at, any_value(rng))
        elif how == "typo" and words[at]:
            place = rng.randrange(len(words[at]))
            words[at] = words[at][:place] + rng.choice(["", "x", "-", "_", "."]) + words[at][place + 1 :]
        elif how == "equals" and at + 1 < len(words) and words[at].startswith("--"):
            words[at : at + 2] = [f"{words[at]}={any_value(rng)}"]
        else:
            words += rng.choice([*(each.split(" ")[1:] for each in COMMANDS), any_field(rng)])
        what.append(f"{how} at {at}")
    return [word.replace("\x00", "") for word in words], what


def any_value(rng: random.Random) -> str:
    """A word that stands for a number, a text or a path."""
    return rng.choice(rng.choice([NUMBERS, TEXTS, PATHS, PATHS]))


def any_field(rng: random.Random) -> list[str]:
    """Any field of a recipe with any value."""
    from glassgpt.recipes import Recipe

    sections = {name: info.annotation for name, info in Recipe.model_fields.items() if name != "description"}
    section = rng.choice(sorted(sections))
    field = rng.choice(sorted(sections[section].model_fields))  # type: ignore[union-attr]
    return [f"--{section}.{field.replace('_', '-')}", any_value(rng)]


def play_script(rng: random.Random) -> bytes:
    """What someone may type into `play`."""
    lines = [f"{rng.choice(TYPED)} {any_value(rng) if rng.random() < 0.6 else ''}" for _ in range(rng.randrange(1, 6))]
    return "\n".join(["/set max-new-tokens 3", "the", *lines, ""]).encode("utf-8", "surrogateescape")


def surround(rng: random.Random, case: Case) -> None:
    """Change what is around the command."""
    how = rng.random()
    if how < 0.5:
        case.environment = dict(rng.choice(ENVIRONMENTS))
    elif how < 0.55:
        case.environment, case.is_fresh, case.patch = dict(rng.choice(FRESH)), True, None
        case.limit = None
    elif how < 0.7:
        case.stdout = rng.choice(["closed", "gone", "/dev/full", "terminal"])
    elif how < 0.75:
        case.stderr = rng.choice(["closed", "gone", "/dev/full"])
    elif how < 0.8:
        case.stdout = case.stderr = rng.choice(["terminal", "gone", "closed"])
    elif how < 0.83 and case.words[:1] != ["play"]:
        case.stdin = "open"
    else:
        case.stdin = rng.choice(["closed", "closed", "/dev/null", "/dev/zero"])


def make_odd_files(work: Path) -> None:
    """Files and folders with unusual names and of unusual kinds."""
    makers: dict[str, Callable[[Path], Any]] = {
        "loop": lambda path: path.symlink_to("loop"),
        "dangling": lambda path: path.symlink_to("nothing"),
        "pipe": os.mkfifo,
        "empty": Path.mkdir,
        "empty.txt": Path.touch,
        "folder.txt": Path.mkdir,
        "weird [1]": lambda path: (path.mkdir(), (path / "a.txt").write_text("abc abc\n" * 50)),
        "a b.txt": lambda path: path.write_text("abc abc\n" * 50),
        "new\nline": lambda path: path.write_text("abc abc\n" * 50),
        "~home": lambda path: path.write_text("abc abc\n" * 50),
        "~$memo.txt": lambda path: path.write_text("abc abc\n" * 50),
        "big\udce9.txt": lambda path: path.write_text("abc abc\n" * 50),
        "link-to-run": lambda path: path.symlink_to("run"),
        "w[": lambda path: (path.mkdir(), (path / "v]").symlink_to("../run")),
        f"escape{MARKER}.txt": lambda path: path.write_text("abc abc\n" * 50),
        "deep": lambda path: (path / "a" / "b" / "c").mkdir(parents=True),
        "links": lambda path: (
            path.mkdir(),
            (path / "up").symlink_to(".."),
            (path / "t.txt").symlink_to("../text.txt"),
        ),
        "blob": lambda path: shutil.copyfile(work / "text.txt", path),
        "snap.txt": lambda path: path.symlink_to("blob"),
    }
    for name, make in makers.items():
        make(work / name)


if __name__ == "__main__":
    fuzz(__doc__, trial, make_seed, cases=20_000)
