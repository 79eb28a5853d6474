"""One model, one text, one training time; five tokenizers. What each comes to, in bits per byte of validation text.

    python benchmarks/compare_tokenizers.py [--seconds 60] [--seeds 3] [--out runs/tokenizers]

For each tokenizer a short run first tells how many steps fit into the time, so that the learning rate falls to its end
in every run. Folders that are there already are not trained again: an interrupted comparison goes on. Prints a table
over the seeds, and draws the first seed's curves with `glassgpt compare`'s own picture.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from glassgpt.reading import read_json
from glassgpt.recipes import load_recipe
from glassgpt.runs import RunFolder
from glassgpt.training import session
from glassgpt.training.comparison import draw_comparison, read_compared

TOKENIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "char": ("shakespeare-cpu", {}),
    "byte": ("shakespeare-cpu", {"kind": "byte"}),
    "word": ("shakespeare-cpu", {"kind": "word"}),
    "bpe-1024": ("shakespeare-bpe", {}),
    "bpe-4096": ("shakespeare-bpe", {"vocab_size": 4096}),
    "gpt2": ("shakespeare-gpt2", {}),
}
CALIBRATION_STEPS = 40


def train(name: str, folder: Path, seed: int, max_steps: int, console: Console) -> None:
    """One run, evaluated eight times."""
    recipe_name, tokenizer = TOKENIZERS[name]
    training = {
        "seed": seed,
        "max_steps": max_steps,
        "warmup_steps": min(100, max_steps // 5),  # a large vocabulary has time for few steps
        "eval_every": max(1, max_steps // 8),
        "log_every": 5,
    }
    changes = {"tokenizer": tokenizer, "training": training, "sampling": {"prompt": "\n", "max_new_tokens": 20}}
    session.train(load_recipe(recipe_name, changes), folder, console)


def steps_within(name: str, seconds: float) -> int:
    """How many steps of training fit into the time on this machine, now."""
    with tempfile.TemporaryDirectory() as folder:
        train(name, Path(folder) / "run", 0, CALIBRATION_STEPS, Console(quiet=True))
        run = RunFolder(Path(folder) / "run")
        rate = read_json(run.summary, "a summary")["tokens_per_second"]
        recipe = run.read_recipe()
    return int(seconds * rate / (recipe.training.batch_size * recipe.model.block_size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of training, each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/tokenizers"))
    options = parser.parse_args()
    console = Console()
    for seed in range(options.seeds):
        for name in TOKENIZERS:
            folder = options.out / f"{name}-{seed}"
            if not RunFolder(folder).summary.exists():
                steps = steps_within(name, options.seconds)
                console.print(f"[bold]{name}, seed {seed}: {steps:,} steps[/]")
                train(name, folder, seed, steps, console)
    print("| tokenizer | entries | parameters | bytes/token | steps | text seen | training | bits/byte, mean (range) |")
    print("|---|---|---|---|---|---|---|---|")
    first = []
    for name in TOKENIZERS:
        runs = [read_compared(options.out / f"{name}-{seed}", f"{name}-{seed}") for seed in range(options.seeds)]
        summary = read_json(options.out / f"{name}-0" / "summary.json", "a summary")
        first.append(runs[0])
        bits = [run.bits_per_byte for run in runs if run.bits_per_byte is not None]
        steps, seconds = statistics.mean(run.steps for run in runs), statistics.mean(run.seconds for run in runs)
        seen = statistics.mean(run.curve[-1][1] for run in runs) / 1e6
        print(
            f"| {name} | {runs[0].recipe.model.vocab_size:,} | {runs[0].parameters:,} | "
            f"{summary['bytes_per_token']:.2f} | {steps:,.0f} | {seen:.1f} MB | {seconds:.0f} s | "
            f"{statistics.mean(bits):.3f} ({min(bits):.3f} to {max(bits):.3f}) |"
        )
    draw_comparison(first, options.out / "compare.png")


if __name__ == "__main__":
    main()
