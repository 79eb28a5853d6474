"""Damage the files that commands read, run the commands, and check what they say and leave.

    python benchmarks/fuzz_files.py [--cases 20000] [--seed 0] [--only N]

Each case takes valid inputs (texts, rows, tokenizers, prepared texts, recipes, runs), damages one file (its bytes, a
field of its JSON or TOML, its tensors, or what stands at its place), and runs a command that reads it. A refusal is one
line and exit code 2, and nothing has changed. Linux only.
"""

import hashlib
import json
import random
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fuzzing import Case, Result, Stage, fuzz, try_case
from fuzzing_damage import damage
from fuzzing_seeds import SMALL, make_seed, small_blocks

QUICK = ("--training.max-steps", "2", "--training.eval-every", "2", "--sampling.max-new-tokens", "4")


@dataclass(frozen=True)
class Target:
    """Commands and a file that they read.

    Attributes:
        seeds: the valid inputs.
        files: patterns of the files to damage, in the working folder.
        commands: any of them, and what each may write to.
        weight: how often.
    """

    seeds: tuple[str, ...]
    files: tuple[str, ...]
    commands: tuple[str, ...]
    weight: int = 1


TARGETS = (
    Target(
        ("texts", "run", "run-bpe"),
        ("run/recipe.toml", "run/tokenizer.json", "run/model.safetensors"),
        (
            "info run",
            "generate run --prompt the --seed 1 --max-new-tokens 5",
            "generate run --prompt the --greedy --max-new-tokens 20 --when-full stop",
            "evaluate run",
            "evaluate run --data text.txt --json",
            "play run",
            "compare run run-bpe --json",
            "inspect run --prompt the --out inside --no-pictures",
            "tokenizer encode run the",
            "tokenizer info run",
            "train run/recipe.toml --out again",
            "prepare text.txt --tokenizer run --out tokens",
        ),
        weight=6,
    ),
    Target(
        ("texts", "run", "run-bpe"),
        ("run/metrics.jsonl", "run/summary.json", "run/gradients.jsonl", "run/recipe.toml"),
        (
            "plot run --out p.svg",
            "plot run run-bpe --out p.svg --y bits",
            "plot run --gradients --out g.svg",
            "compare run run-bpe --json",
            "compare run --out c.svg",
            "train --resume run",
            "train --resume run --training.max-steps 8",
        ),
        weight=4,
    ),
    Target(
        ("texts", "stopped"),
        (
            "stopped/recipe.toml",
            "stopped/tokenizer.json",
            "stopped/metrics.jsonl",
            "stopped/model.safetensors",
            "stopped/checkpoints/*/*",
            "stopped/checkpoints/*/state.json",
            "text.txt",
        ),
        ("train --resume stopped",),
        weight=4,
    ),
    Target(
        ("texts", "tokenizers"),
        ("bpe.json", "word.json", "char.json", "hf.json"),
        (
            "tokenizer encode FILE the",
            "tokenizer decode FILE 1 2 300",
            "tokenizer info FILE",
            "tokenizer info FILE --data story.txt --json",
            "tokenizer export FILE --out out.json",
            "tokenizer import FILE --out out.json",
            "tokenizer import hf.json --out out.json",
            "prepare story.txt --tokenizer FILE --out tokens",
            f"train small.toml --data story.txt --tokenizer.file FILE --out new {' '.join(QUICK)}",
            "info small.toml --tokenizer.file FILE",
        ),
        weight=6,
    ),
    Target(
        ("texts", "run"),
        (
            "text.txt",
            "rows.jsonl",
            "rows.jsonl.gz",
            "text.txt.gz",
            "text.txt.zst",
            "rows.parquet",
            "texts/*",
            "texts/*/*",
        ),
        (
            "prepare SOURCE --tokenizer byte --out tokens",
            "prepare SOURCE --tokenizer char --out tokens --separator xx",
            "tokenizer train SOURCE --out new.json --vocab-size 270",
            "tokenizer train SOURCE --out new.json --kind word",
            "tokenizer info byte --data SOURCE",
            "evaluate run --data SOURCE",
            f"train --data SOURCE --out new {' '.join(SMALL)} {' '.join(QUICK)}",
            "info small.toml --data.source SOURCE",
        ),
        weight=6,
    ),
    Target(
        ("tokens", "run"),
        ("tokens-char/*", "tokens/*"),
        (
            "tokenizer info FOLDER",
            f"train --data FOLDER --out new {' '.join(SMALL)} {' '.join(QUICK)} --data.val-fraction 0.1",
            "evaluate run --data FOLDER",
            "info small.toml --data.source FOLDER",
        ),
        weight=4,
    ),
    Target(
        ("texts", "partial"),
        (".begun.partial/*", ".begun.partial/journal.jsonl", "story.txt"),
        ("prepare story.txt --tokenizer byte --out begun",),
        weight=3,
    ),
    Target(
        ("texts", "small"),
        ("small.toml",),
        (
            "info small.toml",
            "info small.toml --json",
            "train small.toml --out new",
            "bench train --shape small.toml --rounds 0",
        ),
        weight=4,
    ),
    Target(
        ("texts", "run", "inspection"),
        ("inside/*", "inside/*/*"),
        ("inspect run --prompt the --out inside --no-pictures",),
    ),
)


def trial(stage: Stage, rng: random.Random) -> Result:
    """One damaged file and one command."""
    target = rng.choices(TARGETS, [each.weight for each in TARGETS])[0]
    stage.place(seed for seed in target.seeds if seed != "small")
    work = stage.work
    pattern = rng.choice(target.files)
    file = rng.choice(sorted(path for path in work.glob(pattern) if path.is_file()))
    name = str(file.relative_to(work))
    before = json.loads(file.read_bytes()) if name.endswith("state.json") else None
    what = f"{name}: {damage(rng, file)}"
    if rng.random() < 0.15 and _is_plain(file):
        with suppress(Exception):  # what is damaged already may be nothing that can be damaged in its own way
            what += f"; and {damage(rng, file)}"
    if rng.random() < 0.7 and _is_plain(file):
        what += _hide(work, name, is_state=before is not None)
    source = name.split("/", maxsplit=1)[0] if rng.random() < 0.7 or "/" in name else "*" + file.suffix
    words = rng.choice(target.commands).split(" ")
    words = [
        {"FILE": name, "SOURCE": source, "FOLDER": name.split("/", maxsplit=1)[0]}.get(word, word) for word in words
    ]
    stdin = b"the\n\n/tokens\n/lens\n/set seed 2\n/quit\n" if words[0] == "play" else b""
    case = Case(words, what, stdin=stdin, patch=small_blocks, patience=8 if "train" in words[0] else None)
    return try_case(stage, case)


def _is_plain(file: Path) -> bool:
    return file.is_file() and not file.is_symlink() and file.stat().st_size < 2**22


def _hide(work: Path, name: str, *, is_state: bool) -> str:
    """Let digests fit what was damaged, as they would in a file from elsewhere; what reads it must check more."""
    with suppress(ValueError, OSError, KeyError, TypeError, AttributeError):
        if name.endswith(".bin") or (name.endswith("tokenizer.json") and name.startswith("tokens")):
            header = work / name.split("/", maxsplit=1)[0] / "header.json"
            text = header.read_text(encoding="utf-8")
            facts = json.loads(text)
            split, kind, *_ = Path(name).name.split(".")
            width = 8 if kind == "documents" else 1
            data = (work / name).read_bytes()
            facts["splits"][split][kind] = len(data) // width
            facts["splits"][split][f"{kind}_sha256"] = hashlib.sha256(data).hexdigest()
            header.write_text(json.dumps(facts), encoding="utf-8")
            return "; its digest in the header fits"
        if is_state:
            text = (work / name).read_text(encoding="utf-8")
            (work / name).write_text(re.sub(r'"sha256": \{[^}]*\}', '"none": null', text), encoding="utf-8")
            return "; without digests"
        if "checkpoints" in name:
            state = (work / name).parent / "state.json"
            facts = json.loads(state.read_bytes())
            facts.pop("sha256")
            state.write_text(json.dumps(facts), encoding="utf-8")
            return "; its state without digests"
        if name.endswith("/tokenizer.json"):
            recipe = work / name.replace("tokenizer.json", "recipe.toml")
            text = recipe.read_text(encoding="utf-8")
            recipe.write_text(re.sub(r'fingerprint = ".*"\n', "", text), encoding="utf-8")
            return "; no fingerprint in the recipe"
    return ""


if __name__ == "__main__":
    fuzz(__doc__, trial, make_seed, cases=20_000)
