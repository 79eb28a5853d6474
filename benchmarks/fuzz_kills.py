"""Kill commands at chosen calls and at random moments, repeat them, and compare with commands that nobody disturbed.

    python benchmarks/fuzz_kills.py [--cases 300] [--seed 0] [--only N]

Two thirds of the kills come just before or after a call that changes something (opens, writes, syncs, renames or
removes a file), the others at any moment. Training is resumed, other commands are repeated, up to three times with
another kill. In the end all files are byte-identical to those of an undisturbed command, except for figures of time,
and nothing temporary is left. Linux only.
"""

import os
import random
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from fuzz_errors import count_calls
from fuzzing import Result, Stage, fuzz
from fuzzing_checks import Finding, check_outcome
from fuzzing_faults import CHANGING, intercept
from fuzzing_scenarios import SCENARIOS, Scenario, check_between, check_end, clear_between, expected, run_words
from fuzzing_seeds import make_seed

_SECONDS: dict[Scenario, float] = {}
WRITING = [scenario for scenario in SCENARIOS if scenario.result or "story" in scenario.words]


def trial(stage: Stage, rng: random.Random) -> Result:
    """One scenario, killed one to three times, and repeated until it ends."""
    scenario = rng.choice(WRITING)
    calls = sum(count for name, count in count_calls(stage, scenario).items() if name in CHANGING)
    expected(stage, scenario)
    usual = _usual_seconds(stage, scenario)
    what, codes, findings = [scenario.words], list[int](), list[Finding]()
    for number in range(rng.choice([1, 1, 2, 3])):
        words = scenario.repeat(stage) if number else scenario.words.split(" ")
        if rng.random() < 2 / 3:
            at, is_before = rng.randint(1, calls), rng.random() < 0.5
            what.append(f"killed {'before' if is_before else 'after'} call {at} of {calls}")
            act = dying(at, is_before)
            outcome = run_words(stage, words, partial(intercept, stage.root / "case", act))
        else:
            seconds = rng.uniform(0, usual)
            what.append(f"killed after {seconds:.3f} s")
            outcome = run_words(stage, words, kill_after=seconds)
        codes.append(outcome.code)
        if outcome.code != -signal.SIGKILL:
            if outcome.code != 0 or number == 0:
                findings += [] if _is_done(outcome.stderr) else check_outcome(outcome, is_binary=True)
            break
        findings += check_between(stage, scenario, in_parts=True)
        clear_between(stage)
    again = run_words(stage, scenario.repeat(stage))
    if not _is_done(again.stderr):
        findings += check_outcome(again, is_binary=True)
    findings += check_end(stage, scenario, again)
    return Result("\n".join(what), findings, codes, again.stderr.decode("utf-8", "replace"))


def _is_done(error: bytes) -> bool:
    """Whether a command refuses because the kill came when all was done."""
    return any(word in error for word in (b"finished at step", b"is there already", b"holds a prepared text"))


def dying(at: int, is_before: bool) -> Callable[[str, str, Callable[[], Any]], Any]:
    """End this process with the call of this number, counted among those that change something."""
    seen = 0

    def act(name: str, _path: str, call: Callable[[], Any]) -> Any:
        nonlocal seen
        if name not in CHANGING:
            return call()
        seen += 1
        if seen == at and is_before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call()
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return act


def _usual_seconds(stage: Stage, scenario: Scenario) -> float:
    if scenario not in _SECONDS:
        _SECONDS[scenario] = run_words(stage, scenario.words.split(" ")).seconds
        stage.clear()
        expected(stage, scenario)
    return _SECONDS[scenario]


if __name__ == "__main__":
    fuzz(__doc__, trial, make_seed, cases=300)
