"""Kill `glassgpt train` at random moments, resume it, and compare what it ends with to an undisturbed run.

    python benchmarks/kill_train.py [TEXT] [--kills 200] [--seed 0]

Every third kill waits for a file that is just being written; the others may fall anywhere in the life of the process,
from importing torch to writing the summary. After each, everything in the run folder must be readable; at the end of
each run, weights, checkpoints, metrics and samples must have the same bytes, timings left out.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

from glassgpt.reading import read_json
from glassgpt.runs import RunFolder, read_metrics
from glassgpt.tensor_files import load_tensors
from glassgpt.training.checkpoints import list_checkpoints

SETTINGS = [
    *("--model.n-layer", "2", "--model.n-head", "2", "--model.n-embd", "32", "--model.block-size", "16"),
    *("--model.dropout", "0.1", "--data.order", "epochs", "--training.gradient-accumulation", "2"),
    *("--training.max-steps", "160", "--training.eval-every", "20", "--training.eval-tokens", "500"),
    *("--training.checkpoint-every", "8", "--training.log-every", "5", "--training.batch-size", "4"),
    *("--training.learning-rate", "0.02", "--training.device", "cpu", "--sampling.max-new-tokens", "20"),
    *("--training.max-seconds", "none"),  # a slow machine must not end it early
]
TIMES = ("seconds", "tokens_per_second", "training_seconds", "state.json")  # the last: a digest of such figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="?", default="python-reference")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    command = [sys.executable, "-m", "glassgpt", "train"]
    with tempfile.TemporaryDirectory() as folder:
        whole, out = RunFolder(Path(folder) / "whole"), RunFolder(Path(folder) / "out")
        start = [*command, "--data", options.text, *SETTINGS, "--out"]
        began = time.monotonic()
        subprocess.run([*start, str(whole.path)], check=True, capture_output=True)
        usual = time.monotonic() - began
        expected = content(whole)
        kills = while_writing = resumed = finished = 0
        while kills < options.kills or out.path.exists():
            last = kills == options.kills  # this one may end by itself
            resuming = out.recipe.exists()
            words = [*command, "--resume"] if resuming else start
            process = subprocess.Popen([*words, str(out.path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if last:
                pass
            elif rng.random() < 1 / 3:
                wait_for_writing(process, out, rng.randrange(20), rng.uniform(0, 0.002))
            else:
                wait(process, rng.uniform(0, usual))
            if not last:
                process.kill()
            error = process.communicate()[1].decode()
            resumed += resuming
            if error:
                sys.exit(f"after {kills} kills: {error}")
            if process.returncode != 0:
                kills += 1
                while_writing += bool(unfinished(out))
                check_readable(out)
            if out.summary.exists():  # it comes last; all that a kill may still cut off is the farewell
                if differences := [*differing(content(out), expected)]:
                    sys.exit(f"after {kills} kills, not the same: " + "; ".join(differences))
                finished += 1
                shutil.rmtree(out.path)
    print(
        f"{kills} kills, {while_writing} of them while a file was being written; resumed {resumed} times; finished "
        f"{finished} times, each time the same {len(expected)} files"
    )


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def wait_for_writing(process: subprocess.Popen[bytes], out: RunFolder, passed_over: int, seconds: float) -> None:
    """Until a file is being written, not the first few that are, and a little longer."""
    before: set[Path] = set()
    while process.poll() is None:
        now = unfinished(out)
        if now - before:
            passed_over -= 1
        if passed_over < 0:
            time.sleep(seconds)
            return
        before = now
        time.sleep(0.0005)


def unfinished(out: RunFolder) -> set[Path]:
    """What is there under a temporary name."""
    found = set()
    for folder in (out.path, out.checkpoints):
        with suppress(FileNotFoundError):
            found |= {Path(entry.path) for entry in os.scandir(folder) if entry.name.endswith(".tmp")}
    return found


def check_readable(out: RunFolder) -> None:
    """Whatever is there is whole."""
    if not out.recipe.exists():
        return  # killed before there was a run
    out.read_tokenizer(out.read_recipe())
    read_metrics(out.metrics)
    for checkpoint in list_checkpoints(out.checkpoints):
        read_json(checkpoint / "state.json", "a checkpoint's state")
        for name in ("model", "optimizer"):
            load_tensors(checkpoint / f"{name}.safetensors")
    if out.weights.exists():
        load_tensors(out.weights)


def content(out: RunFolder) -> dict[str, Any]:
    """What is in a finished run folder, by name, without what depends on the time that it took."""
    found: dict[str, Any] = {}
    for file in sorted(out.path.rglob("*")):
        name = file.relative_to(out.path).as_posix()
        if file.name == "metrics.jsonl":
            found[name] = [without_times(row) for row in read_metrics(file)]
        elif file.suffix == ".json":
            found[name] = without_times(json.loads(file.read_text(encoding="utf-8")))
        elif file.is_file() and file.name not in ("summary.md", "curves.png", ".lock"):
            found[name] = file.read_bytes()
    return found


def differing(found: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    """Which files are others, and in what."""
    for name in sorted(found.keys() | expected.keys()):
        ours, theirs = found.get(name), expected.get(name)
        if isinstance(ours, list) and isinstance(theirs, list):
            lines = [pair for pair in zip_longest(ours, theirs) if pair[0] != pair[1]]
            ours, theirs = lines[0] if lines else (None, None)
        if ours != theirs:
            yield f"{name}: {str(ours)[:500]} instead of {str(theirs)[:500]}"


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in TIMES}
    return value


if __name__ == "__main__":
    main()
