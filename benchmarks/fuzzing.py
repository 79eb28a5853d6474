"""What the fuzzers share: a child process for each case, what is checked after it, and the summary.

The parent imports everything once and forks a child for each case (about 10 ms), so nothing that one case does can
reach the next. Each child has its own empty working folder, home, cache and temporary folder, no network, and limits on
time and memory. Linux only: processes are watched through /proc.
"""

import argparse
import os
import random
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fuzzing_checks import KINDS, Finding, check_folders, check_outcome
from fuzzing_child import Outcome, Run, command, import_everything
from fuzzing_watch import run_child


@dataclass
class Case:
    """A command line with its surroundings.

    Attributes:
        words: the command.
        what: what is unusual about it.
        stdin, stdout, stderr, environment, patience, limit: see `fuzzing_child.Run`.
        patch: called in the child before the command.
        is_fresh: run it in an interpreter of its own, for variables that count when a process begins.
        writes: where it may make files, relative to its working folder; None: what its words name, which it
            may also change.
    """

    words: list[str]
    what: str = ""
    stdin: bytes | str = b""
    stdout: str = "file"
    stderr: str = "file"
    environment: dict[str, str | None] = field(default_factory=dict)
    patience: float | None = None
    limit: int | None = None
    patch: Callable[[], None] | None = None
    is_fresh: bool = False
    writes: list[str] | None = None


@dataclass
class Result:
    """What came of a case."""

    what: str
    findings: list[Finding]
    codes: list[int]
    log: str = ""


@dataclass
class Stage:
    """The folders in which cases run, and valid inputs that are made once.

    Attributes:
        root: everything is below it.
        make_seed: makes a valid input by name in the working folder: see `fuzzing_seeds`.
    """

    root: Path
    make_seed: Callable[["Stage", str], None]
    previous: list[str] = field(default_factory=list)

    @property
    def work(self) -> Path:
        """The working folder of a case."""
        return self.root / "case" / "work"

    @property
    def cache(self) -> Path:
        """`GLASSGPT_CACHE` of a case."""
        return self.root / "case" / "cache"

    def clear(self) -> None:
        """Begin with empty folders."""
        shutil.rmtree(self.root / "case", ignore_errors=True)
        for name in ("work", "home", "cache", "tmp"):
            (self.root / "case" / name).mkdir(parents=True)

    def seed(self, name: str) -> Path:
        """The folder that holds a valid input; made now if it is not there yet."""
        kept = self.root / "seeds" / name
        if not kept.exists():
            saved = self.root / f"saved-{name}"
            shutil.rmtree(saved, ignore_errors=True)  # of a fuzzer that was stopped
            if self.work.exists():
                (self.root / "case").rename(saved)
            self.clear()
            self.make_seed(self, name)
            kept.parent.mkdir(parents=True, exist_ok=True)
            self.work.rename(kept)
            shutil.rmtree(self.root / "case")
            if saved.exists():
                saved.rename(self.root / "case")
        return kept

    def place(self, names: Iterable[str]) -> None:
        """Put valid inputs into the working folder."""
        for name in names:
            shutil.copytree(self.seed(name), self.work, symlinks=True, dirs_exist_ok=True)

    def run(self, run: Run) -> Outcome:
        """Run a child in the working folder."""
        return run_child(run, self.root / "case")

    def look(self) -> dict[str, object]:
        """Everything in the case's folders, by path."""
        return {name: found for name, found in _look(self.root / "case") if not name.startswith("std")}


def _look(folder: Path) -> Iterable[tuple[str, object]]:
    """Names and contents, without following links or opening what is no file."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            state = path.lstat()
            what: object = "folder"
            if path.is_symlink():
                what = f"link to {path.readlink()}"
            elif path.is_file():
                what = path.read_bytes() if state.st_size < 2**22 else (state.st_size, state.st_mtime_ns)
            elif not path.is_dir():
                what = "special"
            yield str(path.relative_to(folder)), what


def try_case(stage: Stage, case: Case) -> Result:
    """Run a command, and check how it ended, what it said, and what it left."""
    before = stage.look()

    def action() -> int:
        if case.is_fresh:
            os.execv(sys.executable, [sys.executable, "-m", "glassgpt", *case.words])
        if case.patch is not None:
            case.patch()
        return command(case.words, stage.root / "case")

    outcome = stage.run(
        Run(action, case.stdin, case.stdout, case.stderr, case.environment, patience=case.patience, limit=case.limit)
    )
    is_binary = case.words[:1] in (["generate"], ["play"]) or case.words[:2] == ["tokenizer", "decode"]
    findings = check_outcome(
        outcome,
        is_binary=is_binary and case.stdout != "terminal",
        is_quiet=case.stderr not in ("file", "terminal"),
        is_plain=case.words[:1] == ["generate"],
    )
    if not any(finding.kind in ("traceback", "hang", "memory") for finding in findings):
        named = [f"work/{path}" for path in written_by(case.words)]
        makes = named if case.writes is None else [f"work/{path}" for path in case.writes]
        # what was made stays where only saying so has failed
        code = 0 if case.stdout in ("closed", "gone", "/dev/full") else outcome.code
        findings += check_folders(before, stage.look(), code, makes, named)
    shown = {name: getattr(case, name) for name in ("what", "environment", "stdin", "stdout", "stderr")}
    unusual = [f"{name}: {value!r}" for name, value in shown.items() if value not in ("", {}, b"", "file")]
    what = "\n".join([f"words: {' '.join(map(shlex.quote, case.words))}", *unusual])
    log = f"exit {outcome.code}\nstdout:\n{outcome.stdout[-3000:].decode('utf-8', 'replace')}\n"
    return Result(what, findings, [outcome.code], log + f"stderr:\n{outcome.stderr[-3000:].decode('utf-8', 'replace')}")


def written_by(words: list[str]) -> list[str]:
    """What a command may write to, by its words: the value of --out, the run that is resumed, default names."""
    found = [words[n + 1] for n, word in enumerate(words[:-1]) if word in ("--out", "--resume")]
    found += [word.partition("=")[2] for word in words if word.startswith(("--out=", "--resume="))]
    defaults = {"train": ["runs"], "plot": ["plot.png", *(f"{word}/{name}" for word in words[1:] for name in
                ("curves.png", "gradients.png"))], "compare": ["compare.png"]}  # fmt: skip
    if words[:1] == ["prepare"]:  # what is under way is taken up, or begun anew
        found += [str(Path(path).with_name(f".{Path(path).name}.partial")) for path in found if Path(path).name]
    return found or defaults.get(words[0] if words else "", [])


def _cpu_seconds() -> float:
    """Of this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


Trial = Callable[[Stage, random.Random], Result]


@dataclass
class Tally:
    """What came of the cases so far."""

    cases: int = 0
    seen: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)

    def add(self, number: int, result: Result) -> None:
        """Count a case."""
        self.cases += 1
        self.codes.update(result.codes)
        self.kinds.update({finding.kind for finding in result.findings})
        for finding in result.findings:
            self.seen.setdefault((finding.kind, finding.signature), []).append(number)

    def show(self) -> str:
        """A line for each kind of finding and its first cases, and a summary line without its beginning and end."""
        found = sorted(self.seen.items(), key=lambda item: -len(item[1]))
        lines = [f"{len(where):5}  {kind}: {what}  {where[:4]}" for (kind, what), where in found]
        counted = ", ".join(f"{self.kinds[kind]} {words}" for kind, words in KINDS.items())
        ended = ", ".join(f"{code}: {count:,}" for code, count in sorted(self.codes.items()))
        text = "\n".join([*lines, f"{self.cases:,} cases, {counted}; by exit code {ended}"])
        return text.encode("ascii", "backslashreplace").decode("ascii")


def fuzz(description: str | None, trial: Trial, make_seed: Callable[[Stage, str], None], *, cases: int = 1000) -> None:
    """Try case after case, report what was found, and exit with 1 if there was anything."""
    script = Path(sys.argv[0]).name
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="decides all cases")
    parser.add_argument("--cases", type=int, default=cases)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so long, however many cases")
    parser.add_argument("--only", type=int, help="repeat one case, show all of it and keep its folder")
    parser.add_argument("--findings", type=Path, help="the folder for a file per finding (default: findings-…)")
    parser.add_argument("--folder", type=Path, help="where cases run; valid inputs made there are used again")
    options = parser.parse_args()
    root = options.folder or Path(tempfile.mkdtemp(prefix="glassgpt-fuzz-"))
    stage = Stage(root.resolve(), make_seed)
    findings = options.findings or Path(f"findings-{Path(script).stem}-{options.seed}")
    numbers = [options.only] if options.only is not None else range(options.first, options.first + options.cases)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    import_everything()
    began, tally = time.monotonic(), Tally()
    with suppress(KeyboardInterrupt):  # then the summary is about the cases so far
        for number in numbers:
            if time.monotonic() - began > options.seconds:
                break
            stage.clear()
            result = trial(stage, random.Random(f"{options.seed}:{number}"))
            tally.add(number, result)
            text = "".join(f"{each.kind}: {each.signature}\n{each.detail}\n\n" for each in result.findings)
            repeat = f"python benchmarks/{script} --seed {options.seed} --only {number}"
            text = f"repeat: {repeat}\n\n{result.what}\n\n{text}{result.log}"
            if options.only is not None:
                print(text.encode("utf-8", "backslashreplace").decode(), f"\nits folder: {stage.root / 'case'}")
            elif result.findings:
                findings.mkdir(parents=True, exist_ok=True)
                (findings / f"{number:06d}.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
    *lines, summary = tally.show().split("\n")
    ended = f"seed {options.seed}, {time.monotonic() - began:.0f} s ({_cpu_seconds():.0f} s of computing)"
    print("\n".join([*lines, f"{script}: {summary}; {ended}"]))
    if options.folder is None and options.only is None:
        shutil.rmtree(root, ignore_errors=True)
    sys.exit(1 if tally.seen else 0)
