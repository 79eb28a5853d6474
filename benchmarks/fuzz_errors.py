"""Let one call of the operating system fail, or all of its kind from then on, in commands that write and read.

    python benchmarks/fuzz_errors.py [--cases 300] [--seed 0] [--only N]

A command's calls about its own folders are counted once; then one of them fails, with an error that this call can have
(a full disk, a file system that is read-only or gone, no lock, …). The command says so in one line with exit code 2, or
does without; what was there before is whole, nothing is left behind, and the same command without the error succeeds,
with the same result as an undisturbed one. Linux only.
"""

import errno
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzzing import Result, Stage, fuzz
from fuzzing_checks import Finding, check_folders, check_outcome
from fuzzing_faults import ERRORS, intercept
from fuzzing_scenarios import SCENARIOS, Scenario, check_between, check_end, expected, run_words
from fuzzing_seeds import make_seed

_COUNTS: dict[Scenario, Counter[str]] = {}


def count_calls(stage: Stage, scenario: Scenario) -> Counter[str]:
    """How many calls of each kind an undisturbed command makes."""
    if scenario not in _COUNTS:
        expected(stage, scenario)
        file = stage.root / "calls"
        file.unlink(missing_ok=True)

        def act(name: str, _path: str, call: Callable[[], Any]) -> Any:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, f"{name}\n".encode())
            os.close(descriptor)
            return call()

        run_words(stage, scenario.words.split(" "), lambda: intercept(stage.root / "case", act))
        _COUNTS[scenario] = Counter(file.read_text(encoding="ascii").split())
        stage.clear()
    return _COUNTS[scenario]


@dataclass
class Failing:
    """Fails at one call, or from there on."""

    kind: str
    number: int
    code: int
    is_lasting: bool
    log: Path
    counts: Counter[str] = field(default_factory=Counter)

    def __call__(self, name: str, path: str, call: Callable[[], Any]) -> Any:
        """Make the call, or fail: see `fuzzing_faults.Act`."""
        if name != self.kind:
            return call()
        self.counts[name] += 1
        now = self.counts[name]
        if now == self.number or (self.is_lasting and now > self.number):
            with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{name} {path}\n")
            raise OSError(
                self.code, os.strerror(self.code), path if name not in ("write", "read", "fsync", "flock") else None
            )
        return call()


def trial(stage: Stage, rng: random.Random) -> Result:
    """One scenario with one error, and its repetition without."""
    scenario = rng.choice(SCENARIOS)
    counts = count_calls(stage, scenario)
    kind = rng.choice(sorted(counts.keys() & ERRORS.keys()))
    log = stage.root / "failed"
    log.unlink(missing_ok=True)
    act = Failing(kind, rng.randint(1, counts[kind]), rng.choice(ERRORS[kind]), rng.random() < 0.3, log)
    expected(stage, scenario)
    before = stage.look()
    outcome = run_words(stage, scenario.words.split(" "), lambda: intercept(stage.root / "case", act))
    failed = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    what = (
        f"{scenario.words}\n{kind} {act.number} of {counts[kind]} fails with {errno.errorcode[act.code]}"
        f"{' and so do all after it' if act.is_lasting else ''}: {', '.join(failed[:3])}"
    )
    findings = check_outcome(outcome, is_binary=True)
    output = f"exit {outcome.code}\n{(outcome.stdout[-1500:] + outcome.stderr[-1500:]).decode('utf-8', 'replace')}"
    if not findings:
        findings = _check_left(scenario, before, stage, outcome.code, kind)
        cache = str(stage.cache)
        if (
            outcome.code == 2
            and kind != "mmap"
            and failed
            and all(line.partition(" ")[2].startswith(cache) for line in failed)
        ):
            findings.append(Finding("wrong", f"a cache that fails ends the command: {kind}", output))
        begun = stage.work / scenario.result
        is_begun = outcome.code == 2 and scenario.words.startswith("train --data") and begun.exists()
        if is_begun and not (begun / "recipe.toml").exists():
            findings.append(Finding("left", f"a half-made run: {kind}", str(sorted(begun.iterdir()))))
        findings += check_between(stage, scenario)
        again = run_words(stage, scenario.repeat(stage))
        findings += check_outcome(again, is_binary=True)
        findings += check_end(stage, scenario, again)
    return Result(what, findings, [outcome.code], output)


def _check_left(scenario: Scenario, before: dict[str, object], stage: Stage, code: int, kind: str) -> list[Finding]:
    """What the command leaves: nothing temporary, and nothing new if it refused."""
    result = [f"work/{scenario.result}"] if scenario.result else []
    found = check_folders(before, stage.look(), 0 if scenario.words.startswith("train") else code, result, result)
    # Where removing is what failed, or the folder could not be synced after the result was in its place.
    cannot_remove = kind in ("unlink", "rmdir", "scandir", "open", "stat", "fsync")
    partial = [finding for finding in found if finding.detail.endswith(".partial") or ".partial/" in finding.detail]
    return [each for each in found if not (cannot_remove and each.kind == "left") and each not in partial]


if __name__ == "__main__":
    fuzz(__doc__, trial, make_seed, cases=300)
