"""What --watch-gradients costs: a recipe watched every N steps beside the same one unwatched.

    python benchmarks/watch_gradients.py shakespeare-cpu --every 10 100 --steps 200 --rounds 4

In each round, all sides train the same steps in turn, a few at a time, so that a drift of the machine's speed meets all
of them. Prints the time of training over that of the unwatched side, by the clock and in processor time (which other
programs disturb less, and which says nothing of a GPU): median, lowest and highest round. Let the steps be a multiple
of every N, or a side is watched more or less often than its N says.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from glassgpt.recipes import load_recipe
from glassgpt.training.events import Event, Step
from glassgpt.training.setup import make_trainer, prepare

TURN = 10  # steps


def advance(events: Iterator[Event], steps: int) -> np.ndarray:
    """Make so many steps; how long they took by the clock, and in processor time."""
    began = np.array([time.perf_counter(), time.process_time()])
    made = 0
    while made < steps:
        made += isinstance(next(events), Step)
    return np.array([time.perf_counter(), time.process_time()]) - began


def one_round(recipe: str, sides: list[int | None], steps: int, backwards: bool) -> dict[int | None, np.ndarray]:
    """Train all sides from the beginning; their seconds, twice."""
    loaded = load_recipe(recipe, {"training": {"max_steps": TURN + steps + 1, "eval_every": 10**6}})
    prepared = prepare(loaded)
    trainings = {}
    for every in sides:
        training = prepared.recipe.training.replace(watch_gradients=every)
        watched = prepared.recipe.replace(training=training.model_dump())
        trainings[every] = iter(make_trainer(replace(prepared, recipe=watched)))
    for events in trainings.values():
        advance(events, TURN)  # not counted: the first steps warm up
    seconds = {every: np.zeros(2) for every in sides}
    for turn in range(steps // TURN):
        order = list(reversed(sides)) if backwards ^ bool(turn % 2) else sides
        for every in order:
            seconds[every] += advance(trainings[every], TURN)
    return seconds


def main() -> None:
    """Time the rounds and print what they came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="shakespeare-cpu")
    parser.add_argument("--every", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    sides: list[int | None] = [None, *arguments.every]
    ratios: dict[int, list[np.ndarray]] = {every: [] for every in arguments.every}
    for number in range(arguments.rounds):
        seconds = one_round(arguments.recipe, sides, arguments.steps, backwards=bool(number % 2))
        for every, found in ratios.items():
            found.append(seconds[every] / seconds[None])
        print(f"round {number + 1}: {seconds[None][0]:.2f} s unwatched", flush=True)
    for every, found in ratios.items():
        for name, each in zip(("clock", "processor"), np.transpose(found), strict=True):
            print(f"every {every:4}: {np.median(each):.3f} times ({each.min():.3f} to {each.max():.3f}), {name}")


if __name__ == "__main__":
    main()
