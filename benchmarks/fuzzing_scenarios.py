"""Commands that write something worth keeping, and what must hold however they end: for kills and for errors."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzing import Stage
from fuzzing_checks import LEFTOVER, Finding
from fuzzing_child import Outcome, Run, command
from fuzzing_seeds import SMALL, small_blocks

TIMES = ("seconds", "tokens_per_second", "training_seconds", "sha256")  # the last: a digest of such figures
UNSTABLE = ("summary.md", ".png")  # times are in them


@dataclass(frozen=True)
class Scenario:
    """A command that is disturbed, and repeated.

    Attributes:
        seeds: the valid inputs.
        words: the command.
        result: what it writes, in the working folder; empty: nothing but a cache.
        keeps: whether the result is there before, and must be the earlier or the new one, whole, at every time.
    """

    seeds: tuple[str, ...]
    words: str
    result: str = ""
    keeps: bool = False

    def repeat(self, stage: Stage) -> list[str]:
        """What someone would do next: resume a run that has begun, else the same again."""
        if self.words.startswith("train --data") and (stage.work / self.result / "recipe.toml").exists():
            return ["train", "--resume", self.result]
        return self.words.split(" ")


SCENARIOS = (
    Scenario(("texts",), f"train --data text.txt --out new {' '.join(SMALL)} --training.watch-gradients 2", "new"),
    Scenario(
        ("texts", "tokenizers"), f"train --data rows.jsonl --out new {' '.join(SMALL)} --tokenizer.kind word", "new"
    ),
    Scenario(
        ("texts",),
        f"train --data story.txt --out new {' '.join(SMALL)} --model.dropout 0.1 --data.order epochs "
        "--training.max-steps 20 --training.gradient-accumulation 2 --training.checkpoint-every 3 "
        "--training.eval-every 5",
        "new",
    ),
    Scenario(("texts", "stopped"), "train --resume stopped", "stopped"),
    Scenario(("texts", "run"), "train --resume run --training.max-steps 8", "run"),
    Scenario(("texts",), "prepare story.txt --tokenizer byte --out begun", "begun"),
    Scenario(("texts",), "prepare story.txt rows.jsonl --tokenizer byte --out begun --workers 2", "begun"),
    Scenario(("texts", "partial"), "prepare story.txt --tokenizer byte --out begun", "begun"),
    Scenario(("texts",), "prepare rows.jsonl --tokenizer bpe --vocab-size 270 --out tokens", "tokens"),
    Scenario(("texts",), "tokenizer train story.txt --vocab-size 270 --out new.json", "new.json"),
    Scenario(("tokenizers",), "tokenizer export bpe.json --out out.json", "out.json"),
    Scenario(("tokenizers",), "tokenizer import hf.json --out out.json", "out.json"),
    Scenario(("run",), "inspect run --prompt the --out inside --no-pictures", "inside"),
    Scenario(("run", "inspection"), "inspect run --prompt cat --out inside --no-pictures", "inside", keeps=True),
    Scenario(("run",), "plot run --out run/curves.png", "run/curves.png", keeps=True),
    Scenario(("run", "run-bpe"), "compare run run-bpe --out c.svg", "c.svg"),
    Scenario(("texts", "run-bpe"), "evaluate run-bpe --data story.txt"),
    Scenario(("texts", "run"), "evaluate run"),
    Scenario(("run",), "generate run --prompt the --seed 1 --max-new-tokens 3"),
)


def run_words(stage: Stage, words: list[str], patch: Callable[[], None] | None = None, **more: Any) -> Outcome:
    """Run a command in small blocks, with something patched after that."""

    def action() -> int:
        small_blocks()
        if patch is not None:
            patch()
        return command(words, stage.root / "case")

    return stage.run(Run(action, **more))


def content(path: Path) -> dict[str, Any]:
    """What is in a file or folder, by name, without what depends on the time that it took."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    names = {file.relative_to(path): file for file in files if file.is_file()}
    return {str(name): _content(file) for name, file in names.items() if not any(map(LEFTOVER.fullmatch, name.parts))}


def _content(file: Path) -> Any:
    if file.name.endswith(UNSTABLE) or "matplotlib" in (data := file.read_bytes()[:2000].decode("utf-8", "replace")):
        return file.stat().st_size > 0
    if file.suffix == ".jsonl":
        return [without_times(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    if file.suffix == ".json" and data.startswith("{"):
        return without_times(json.loads(file.read_text(encoding="utf-8")))
    return file.read_bytes()


def without_times(value: Any) -> Any:
    """JSON data without figures of time."""
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in TIMES}
    return value


_EXPECTED: dict[Scenario, tuple[dict[str, Any], dict[str, Any]]] = {}


def expected(stage: Stage, scenario: Scenario) -> tuple[dict[str, Any], dict[str, Any]]:
    """The result before and after an undisturbed command; the stage is as before it again."""
    if scenario not in _EXPECTED:
        stage.place(scenario.seeds)
        before = content(stage.work / scenario.result) if scenario.result else {}
        outcome = run_words(stage, scenario.words.split(" "))
        if outcome.code != 0:
            raise RuntimeError(f"{scenario.words}: exit {outcome.code}: {outcome.stderr.decode()} {outcome.uncaught}")
        _EXPECTED[scenario] = (before, content(stage.work / scenario.result) if scenario.result else {})
        stage.clear()
    stage.place(scenario.seeds)
    return _EXPECTED[scenario]


def check_between(stage: Stage, scenario: Scenario, *, in_parts: bool = False) -> list[Finding]:
    """What is there after a disturbance is whole.

    Args:
        stage, scenario: what was disturbed.
        in_parts: whether each part of a folder may be the earlier or the new one by itself, or just being replaced,
            since no call replaces several parts at once.
    """
    before, after = _EXPECTED[scenario]
    result = stage.work / scenario.result
    if scenario.keeps and (now := content(result)) not in (before, after):
        parts = {name.split("/")[0] for name in (*before, *after)} if in_parts else {""}
        for part in parts:
            now_part, *others = ({n: c for n, c in all_.items() if n.startswith(part)} for all_ in (now, before, after))
            if now_part not in others and not (in_parts and not now_part):
                words = f"{scenario.words.split(' ')[0]}: neither the earlier result nor the new one"
                return [Finding("wrong", words, f"{part}\n{differing(now_part, others[0])}")]
    if scenario.words.startswith("train ") and (result / "recipe.toml").exists():
        outcome = stage.run(Run(lambda: _read_run(result)))
        if outcome.code != 0:
            return [Finding("wrong", "train: what is in the run folder is damaged", outcome.uncaught)]
    return []


def _read_run(path: Path) -> int:
    from glassgpt.reading import read_json
    from glassgpt.runs import RunFolder, read_metrics
    from glassgpt.tensor_files import load_tensors
    from glassgpt.training.checkpoints import list_checkpoints

    folder = RunFolder(path)
    folder.read_tokenizer(folder.read_recipe())
    read_metrics(folder.metrics)
    for checkpoint in list_checkpoints(folder.checkpoints):
        read_json(checkpoint / "state.json", "a checkpoint's state")
        for name in ("model", "optimizer"):
            load_tensors(checkpoint / f"{name}.safetensors")
    if folder.weights.exists():
        load_tensors(folder.weights)
    return 0


def check_end(stage: Stage, scenario: Scenario, outcome: Outcome) -> list[Finding]:
    """The undisturbed repetition succeeds, with the same result as if nothing had happened, and nothing is left."""
    name = " ".join(scenario.words.split(" ")[:2])
    error = outcome.stderr.decode("utf-8", "replace") + outcome.uncaught
    if (
        outcome.code != 0
        and "finished at step" not in error
        and "is there already" not in error
        and "holds a prepared" not in error
    ):
        return [Finding("wrong", f"{name}: the repetition fails", f"exit {outcome.code}: {error[-1500:]}")]
    found = []
    after = _EXPECTED[scenario][1]
    if scenario.result and (now := content(stage.work / scenario.result)) != after:
        found.append(Finding("wrong", f"{name}: another result", differing(now, after)))
    case = stage.root / "case"
    for path in sorted(case.rglob("*")):
        relative = str(path.relative_to(case))
        if (LEFTOVER.fullmatch(path.name) and not (relative.startswith("cache/") and path.name.endswith(".lock"))) or (
            relative.startswith("tmp/") and path.parent.name == "tmp"
        ):
            found.append(
                Finding("left", f"{name}: after the repetition: {path.name.lstrip('.')[:4]}…{path.suffix}", relative)
            )
    return found


def differing(now: dict[str, Any], expected: dict[str, Any]) -> str:
    """Which files are others, and in what."""
    parts = []
    for name in sorted(now.keys() | expected.keys()):
        ours, theirs = now.get(name), expected.get(name)
        if isinstance(ours, list) and isinstance(theirs, list):
            ours, theirs = (
                [row for row in rows if row not in others] for rows, others in ((ours, theirs), (theirs, ours))
            )
        if ours != theirs:
            parts.append(f"{name}: {str(ours)[:300]} instead of {str(theirs)[:300]}")
    return "\n".join(parts)


def clear_between(stage: Stage) -> None:
    """A machine that was switched off has an empty temporary folder."""
    shutil.rmtree(stage.root / "case" / "tmp")
    (stage.root / "case" / "tmp").mkdir()
