"""`shakespeare-char-fast` to the loss of nanoGPT's documented GPU run: seconds and tokens until then."""

import os
import time
from pathlib import Path
from typing import Any

from glassgpt.data.corpora import CORPORA
from glassgpt.files import cache_folder
from glassgpt.recipes import load_recipe
from glassgpt.training.events import Evaluation
from glassgpt.training.setup import make_trainer, prepare

from .part import Place

RECIPE, CORPUS = "shakespeare-char-fast", "shakespeare"
TARGET = 1.4697  # nats a character on the validation split: nanoGPT's
EVERY = 25  # steps between evaluations, so that the step is known well; they are not part of the training time
NEEDED = {False: 25.0, True: 75.0}
SMALL: dict[str, Any] = {
    "model": {"n_layer": 1, "n_head": 2, "n_embd": 32, "block_size": 32},
    "training": {"max_steps": 20, "batch_size": 4, "eval_tokens": 2_000},
}


def measure(place: Place) -> None:
    """As it comes, then compiled, if there is time."""
    began = time.perf_counter()
    if not is_there():
        why = f"put {CORPORA[CORPUS].filename} into a folder and name that folder in GLASSGPT_DATA"
        place.add(recipe=RECIPE, state="skipped", why=why)
        return
    for compile_ in (False,) if place.small else (False, True):
        needs = 0.0 if place.small else NEEDED[compile_]
        names = {"recipe": RECIPE, "compiled": compile_}
        found = place.attempt(lambda c=compile_: reach(place, compile_=c), needs=needs, **names)
        if found is not None:
            place.add(**names, **found, whole_seconds=round(time.perf_counter() - began, 1))
        began = time.perf_counter()


def is_there() -> bool:
    """Whether the text is here, so that nothing need be fetched."""
    name = CORPORA[CORPUS].filename
    named = os.environ.get("GLASSGPT_DATA")
    return bool(named and (Path(named) / name).is_file()) or (cache_folder() / name).is_file()


def reach(place: Place, *, compile_: bool) -> dict[str, Any]:
    """Train the recipe to its end, and note where it first was at the target."""
    target = 4.2 if place.small else TARGET
    changes: dict[str, Any] = {"model": {}, "training": {}, **(SMALL if place.small else {})}
    every = 10 if place.small else EVERY
    changes["training"] |= {"device": place.device, "compile": compile_, "eval_every": every}
    trainer = make_trainer(prepare(load_recipe(RECIPE, changes)))
    began = time.perf_counter()
    reached: dict[str, Any] | None = None
    best = float("inf")
    for event in trainer:
        if isinstance(event, Evaluation):
            best = min(best, event.score.loss)
            if reached is None and event.score.loss <= target:
                reached = {
                    "step": event.step,
                    "tokens": event.tokens,
                    "training_seconds": trainer.progress.seconds,
                    "seconds_with_evaluations": time.perf_counter() - began,
                }
            if place.left < 0:
                break
    progress = trainer.progress
    return {
        "state": "done" if progress.step == trainer.total_steps else "no time",
        "target": target,
        "reached": reached,
        "best": best,
        "steps": progress.step,
        "tokens": progress.tokens,
        "training_seconds": progress.seconds,
        "tokens_per_second": progress.tokens / progress.seconds,
        "precision": str(trainer.dtype).removeprefix("torch."),
    }
