"""What each ingredient of a fast recipe is worth: the recipe without it, over several seeds.

    python benchmarks/ablation.py shakespeare-sprint
    python benchmarks/ablation.py shakespeare-2min --share 0.25 --only "AdamW for Muon" "no n-grams"

Prints the loss on the whole validation split (the training text, where nothing is kept aside) after the same number of
steps (mean, lowest and highest over the seeds), how much worse that is than the recipe, and the time of training. Runs
of one seed go in turn, so a drift of the machine's speed meets all of them.
"""

import argparse
import statistics
import sys

from glassgpt.recipes import Recipe, load_recipe, merge
from glassgpt.training.evaluation import evaluate, evaluation_windows
from glassgpt.training.setup import make_trainer, prepare

WITHOUT: dict[str, dict[str, dict[str, object]]] = {
    "the recipe": {},
    "no n-grams": {"model": {"ngrams": 1}},
    "pairs only": {"model": {"ngrams": 2}},
    "AdamW for Muon": {"training": {"optimizer": "adamw"}},
    "one learning rate for AdamW": {"training": {"embedding_learning_rate": None}},
    "learned positions for rotary": {"model": {"position": "learned"}},
    "no QK norm": {"model": {"qk_norm": False}},
    "GELU for ReLU²": {"model": {"activation": "gelu"}},
    "RMSNorm for LayerNorm": {"model": {"norm": "rmsnorm"}},
    "no zero-init": {"model": {"zero_init": False}},
    "tied output layer": {"model": {"tie_weights": True}},
    "cosine for stay-then-fall": {"training": {"schedule": "cosine"}},
    "windows drawn at random": {"data": {"order": "windows"}},
    "no warm-up": {"training": {"warmup_steps": 0}},
    "half the batch, twice the steps": {},
    "twice the batch, half the steps": {},
    "float32 throughout": {"training": {"precision": "float32"}},
    "products in bfloat16": {"training": {"precision": "bfloat16"}},
}
BATCHES = {"half the batch, twice the steps": 0.5, "twice the batch, half the steps": 2.0}


def changed(recipe: Recipe, name: str, seed: int, share: float) -> Recipe:
    """The recipe without one ingredient, at a share of its steps."""
    training, factor = recipe.training, BATCHES.get(name, 1.0)
    assert training.max_steps is not None
    steps = max(1, round(training.max_steps * share / factor))
    shorter = {
        "seed": seed,
        "max_steps": steps,
        "batch_size": max(1, round(training.batch_size * factor)),
        "warmup_steps": round(training.warmup_steps * share),
        "max_seconds": None,
        "eval_every": steps,
    }
    return Recipe.model_validate(merge(merge(recipe.model_dump(), {"training": shorter}), WITHOUT[name]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the recipe's steps")
    parser.add_argument("--only", nargs="*", choices=list(WITHOUT)[1:], default=None)
    options = parser.parse_args()
    recipe = load_recipe(options.recipe)
    names = [name for name in WITHOUT if options.only is None or name in options.only or name == "the recipe"]
    losses: dict[str, list[float]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(options.seeds):
        for name in names:
            prepared = prepare(changed(recipe, name, seed, options.share))
            trainer = make_trainer(prepared)
            for _ in trainer:
                pass
            judged = evaluation_windows(prepared.judged, prepared.recipe)
            losses[name].append(evaluate(trainer.model, judged, trainer.device).loss)
            seconds[name].append(trainer.progress.seconds)
            print(f"seed {seed}: {name}: {losses[name][-1]:.4f}", file=sys.stderr)
    base = statistics.mean(losses["the recipe"])
    print(f"| without | nats/token, mean of {options.seeds} seeds (lowest to highest) | worse by | training |")
    print("|---|---|---|---|")
    for name in names:
        mean = statistics.mean(losses[name])
        spread = f"{min(losses[name]):.4f} to {max(losses[name]):.4f}"
        worse = "" if name == "the recipe" else f"{mean - base:+.4f}"
        print(f"| {name} | {mean:.4f} ({spread}) | {worse} | {statistics.median(seconds[name]):.1f} s |")


if __name__ == "__main__":
    main()
