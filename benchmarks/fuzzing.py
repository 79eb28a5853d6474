"""What the fuzzers share: a child process for each case, what is checked after it, and the summary.

The parent imports everything once and forks a child for each case (about 10 ms), so nothing that one case does can reach
the next. Each child has its own empty working folder, home, cache and temporary folder, no network, and limits on time and
memory. Linux only: processes are watched through /proc. OpenMP has one thread, since a pool of threads does not survive
a fork.
"""

import argparse
import os
import random
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before torch is imported

from fuzzing_child import MEMORY, SECONDS, Outcome, Run, command, import_everything, run_child

EXPECTED_CODES = frozenset({0, 2, 130, 141})
MESSAGE_LENGTH = 600  # characters of an error, with some room for long paths
KINDS = ("traceback", "hang", "memory", "left", "changed", "code", "message", "network", "wrong")
LEFTOVER = re.compile(r"\..*\.tmp|\.tmp.{6}|.*\.lock|\.lock|\..*\.partial")
LAST_NET = re.compile(r"internal error|please report|report (it|this)\b|a bug in glassgpt", re.IGNORECASE)
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
MARKER = "\x1b]0;owned\x07"
"""A control sequence that texts, names and models carry: it must not come out on a terminal."""


@dataclass(frozen=True)
class Finding:
    """Something that must not happen.

    Attributes:
        kind: one of `KINDS`.
        signature: the same for all findings of one cause, as far as that can be told.
        detail: what was seen.
    """

    kind: str
    signature: str
    detail: str = ""


@dataclass
class Case:
    """A command line with its surroundings.

    Attributes:
        words: the command.
        what: what is unusual about it.
        stdin, stdout, stderr, environment, patience, limit: see `fuzzing_child.Run`.
        patch: called in the child before the command.
        is_fresh: run it in an interpreter of its own, for variables that count when a process begins.
        writes: where it may make files, relative to its working folder; None: what its words name, which it may change, too.
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


def check_outcome(outcome: Outcome, *, is_binary: bool = False, is_quiet: bool = False) -> list[Finding]:
    """What must hold of any command, wherever it was run.

    Args:
        outcome: what it did.
        is_binary: standard output is the model's text or a tokenizer's, which a file or a pipe gets as it is.
        is_quiet: standard error is closed or gone, so no message is expected.
    """
    found = []
    if outcome.uncaught:
        frames = re.findall(r'File ".*?/(glassgpt/[^"]+)", line (\d+)', outcome.uncaught)
        place = ":".join(frames[-1]) if frames else "?"
        error = outcome.uncaught.strip().splitlines()[-1]
        found.append(Finding("traceback", f"{error.split(':')[0]} at {place}", outcome.uncaught))
    error_text = outcome.stderr.decode("utf-8", "replace")
    if not found and re.search(r"^Traceback|^Exception (in|ignored)", error_text, re.MULTILINE):
        found.append(Finding("traceback", "on standard error: " + normal(error_text.strip().splitlines()[-1])))
    if not found and LAST_NET.search(error_text):
        found.append(Finding("traceback", "the last net: " + normal(error_text.strip().splitlines()[-1])))
    if outcome.ended in ("hang", "memory"):
        return [*found, Finding(outcome.ended, outcome.where, f"{outcome.seconds:.1f} s, {outcome.peak / 1e6:.0f} MB")]
    if outcome.peak > MEMORY:
        found.append(Finding("memory", "peak", f"{outcome.peak / 1e6:.0f} MB"))
    if outcome.children:
        found.append(Finding("left", "processes"))
    if outcome.code not in EXPECTED_CODES and not found:
        found.append(Finding("code", f"exit code {outcome.code}: {normal(error_text)[-200:]}"))
    if outcome.connected:
        found.append(Finding("network", f"connects to {outcome.connected}"))
    for name, text in (("standard output", b"" if is_binary else outcome.stdout), ("standard error", outcome.stderr)):
        if MARKER.encode() in text or (control := CONTROL.search(text)) and not outcome.on_terminal:
            place = text.find(MARKER.encode()) if MARKER.encode() in text else control.start()  # type: ignore[union-attr]
            found.append(Finding("message", f"control characters on {name}", repr(text[max(0, place - 200) :][:300])))
    if outcome.code == 2 and not is_quiet and not any(finding.kind == "traceback" for finding in found):
        shown = outcome.stdout if "stderr" in outcome.on_terminal else outcome.stderr
        found += _check_message(shown.decode("utf-8", "replace").replace("\r\n", "\n"))
    return found


def _check_message(text: str) -> list[Finding]:
    """A refusal is one line of a readable length; notes and warnings may come before it."""
    lines = [line for line in text.split("\n") if line.strip()]
    errors = [line for line in lines if line.startswith("glassgpt: ") and not line.startswith("glassgpt: warning:")]
    if not errors:
        return [Finding("message", "no error message", text[-500:])]
    after = lines[lines.index(errors[0]) + 1 :]
    found = []
    if len(errors) > 1 or after:
        found.append(Finding("message", f"more than one line: {normal(errors[0])[:80]}", text[-1500:]))
    if len(errors[0]) > MESSAGE_LENGTH:
        found.append(Finding("message", f"long: {normal(errors[0])[:60]}", f"{len(errors[0])}: {errors[0][:300]} …"))
    return found


def check_folders(
    before: dict[str, object], after: dict[str, object], code: int, makes: Iterable[str], changes: Iterable[str]
) -> list[Finding]:
    """What was left or changed.

    Args:
        before, after: from `Stage.look`.
        code: the command's exit code.
        makes, changes: beginnings of the paths, relative to the case's folder, at which the command may make or change
            files when it succeeds.
    """
    found = []
    may_make, may_change = (tuple(os.path.normpath(path) for path in paths) for paths in (makes, changes))
    new = sorted(after.keys() - before.keys())
    for path in new:
        name, in_cache = Path(path).name, path.startswith("cache/")
        if LEFTOVER.fullmatch(name) and not (in_cache and name.endswith(".lock")):
            if name.endswith(".partial") and code == 130:
                continue  # an interrupted `prepare`, to be continued
            found.append(Finding("left", f"exit {code}: {normal(name)}", path))
        elif path.startswith("tmp/"):
            found.append(Finding("left", f"exit {code}: in the temporary folder: {normal(name)}", path))
        elif not path.startswith("cache/") and not path.startswith("home/.cache/"):
            if code == 2 and not _is_whole_run(path, after):
                found.append(Finding("left", f"exit 2: a new {'folder' if after[path] == 'folder' else 'file'}", path))
            elif not path.startswith(may_make) and not any(made.startswith(f"{path}/") for made in may_make):
                found.append(Finding("left", f"exit {code}: a file at a place that was not named", path))
    for path in sorted(before):
        if path.startswith(("cache/", "home/.cache")) or after.get(path) == before[path]:
            continue
        if (code == 2 and ".partial" not in path) or not path.startswith(may_change):
            verb = "changed" if path in after else "removed"
            found.append(Finding("changed", f"exit {code}: {verb}: {normal(Path(path).name)}", path))
    return found


def _is_whole_run(path: str, after: dict[str, object]) -> bool:
    """Whether this belongs to a run that had begun and can be resumed: training failed, and what it saved is good."""
    parents = [str(parent) for parent in (Path(path), *Path(path).parents)]
    runs = [parent for parent in parents if f"{parent}/recipe.toml" in after and f"{parent}/metrics.jsonl" in after]
    return bool(runs) or any(f"{path}/{name}/recipe.toml" in after for name in _children(path, after))


def _children(path: str, after: dict[str, object]) -> set[str]:
    return {name[len(path) + 1 :].split("/")[0] for name in after if name.startswith(path + "/")}


def try_case(stage: Stage, case: Case) -> Result:
    """Run a command, and check how it ended, what it said, and what it left."""
    before = stage.look()

    def action() -> int:
        if case.is_fresh:
            os.execv(sys.executable, [sys.executable, "-m", "glassgpt", *map(os.fsencode, case.words)])
        if case.patch is not None:
            case.patch()
        return command(case.words, stage.root / "case")

    streams = {"stdin": case.stdin, "stdout": case.stdout, "stderr": case.stderr}
    outcome = stage.run(Run(action, **streams, environment=case.environment, patience=case.patience, limit=case.limit))
    is_binary = case.words[:1] in (["generate"], ["play"]) or case.words[:2] == ["tokenizer", "decode"]
    findings = check_outcome(outcome, is_binary=is_binary and case.stdout != "terminal", is_quiet=case.stderr != "file")
    if not any(finding.kind in ("traceback", "hang", "memory") for finding in findings):
        named = [f"work/{path}" for path in written_by(case.words)]
        makes = named if case.writes is None else [f"work/{path}" for path in case.writes]
        findings += check_folders(before, stage.look(), outcome.code, makes, named)
    shown = {"words": " ".join(map(shlex.quote, case.words)), "what": case.what, "environment": case.environment}
    what = "\n".join(f"{name}: {value}" for name, value in {**shown, **streams}.items() if value not in ("", {}, b"", "file"))
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


def normal(text: str) -> str:
    """A message without what differs from case to case."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", " ".join(text.split()))
    return re.sub(r"(/[\w.~-]+)+", "/…", re.sub(r"\d+", "N", text))


Trial = Callable[[Stage, random.Random], Result]


def fuzz(description: str | None, trial: Trial, make_seed: Callable[[Stage, str], None], *, cases: int = 1000) -> None:
    """Try case after case, report what was found, and exit with 1 if there was anything."""
    script = Path(sys.argv[0]).name
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="decides all cases")
    parser.add_argument("--cases", type=int, default=cases)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--only", type=int, help="repeat one case, show all of it and keep its folder")
    parser.add_argument("--findings", type=Path, help="the folder for a file per finding (default: findings-…)")
    parser.add_argument("--folder", type=Path, help="where cases run; valid inputs made there are used again")
    options = parser.parse_args()
    root = options.folder or Path(tempfile.mkdtemp(prefix="glassgpt-fuzz-"))
    stage = Stage(root.resolve(), make_seed)
    findings = options.findings or Path(f"findings-{Path(script).stem}-{options.seed}")
    numbers = [options.only] if options.only is not None else range(options.first, options.first + options.cases)
    import_everything()
    began = time.monotonic()
    seen: dict[tuple[str, str], list[int]] = {}
    kinds: Counter[str] = Counter()
    codes: Counter[int] = Counter()
    for number in numbers:
        stage.clear()
        result = trial(stage, random.Random(f"{options.seed}:{number}"))
        codes.update(result.codes)
        kinds.update({finding.kind for finding in result.findings})
        for finding in result.findings:
            seen.setdefault((finding.kind, finding.signature), []).append(number)
        text = "".join(f"{each.kind}: {each.signature}\n{each.detail}\n\n" for each in result.findings)
        text = f"repeat: python benchmarks/{script} --seed {options.seed} --only {number}\n\n{result.what}\n\n{text}{result.log}"
        if options.only is not None:
            print(text, f"\nits folder: {stage.root / 'case'}")
        elif result.findings:
            findings.mkdir(parents=True, exist_ok=True)
            (findings / f"{number:06d}.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
    for (kind, signature), where in sorted(seen.items(), key=lambda item: -len(item[1])):
        print(f"{len(where):5}  {kind}: {signature}  [{', '.join(map(str, where[:4]))}]".encode("ascii", "backslashreplace").decode())
    counted = ", ".join(f"{kinds[kind]} {words}" for kind, words in _WORDS.items())
    ended = ", ".join(f"{code}: {count:,}" for code, count in sorted(codes.items()))
    print(f"{script}: {len(numbers):,} cases, {counted}; by exit code {ended}; seed {options.seed}, {time.monotonic() - began:.0f} s")
    if options.folder is None and options.only is None:
        shutil.rmtree(root, ignore_errors=True)
    sys.exit(1 if seen else 0)


_WORDS = {
    "traceback": "tracebacks",
    "hang": f"hangs over {SECONDS} s",
    "memory": f"above {MEMORY / 2**30:.0f} GB",
    "left": "left something",
    "changed": "changed an input",
    "code": "other exit codes",
    "message": "unclear messages",
    "network": "unasked connections",
    "wrong": "wrong results",
}
