"""What is checked after a command: how it ended, what it said, what it left."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fuzzing_child import MEMORY, Outcome

EXPECTED_CODES = frozenset({0, 2, 130, 141})
MESSAGE_LENGTH = 600  # characters of an error, with some room for long paths
LEFTOVER = re.compile(r"\..*\.tmp|\.tmp.{6}|.*\.lock|\.lock|\..*\.partial")
LAST_NET = re.compile(r"internal error|please report|report (it|this)\b|a bug in glassgpt", re.IGNORECASE)
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
MARKER = "\x1b]0;owned\x07"
"""A control sequence that texts, names and models carry: it must not come out on a terminal."""
KINDS = {
    "traceback": "tracebacks",
    "hang": "hangs",
    "memory": "above 2 GB",
    "left": "left something",
    "changed": "changed an input",
    "code": "other exit codes",
    "message": "unclear messages",
    "network": "unasked connections",
    "wrong": "wrong results",
}
"""The kinds of findings, and how the summary calls them."""


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


def check_outcome(
    outcome: Outcome, *, is_binary: bool = False, is_quiet: bool = False, is_plain: bool = False
) -> list[Finding]:
    """What must hold of any command, wherever it was run.

    Args:
        outcome: what it did.
        is_binary: standard output is the model's text or a tokenizer's, which a file or a pipe gets as it is.
        is_quiet: standard error is closed or gone, so no message is expected.
        is_plain: the command itself writes no control sequences on a terminal.
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
        pattern = CONTROL if is_plain or not outcome.on_terminal else re.compile(re.escape(MARKER.encode()))
        if control := pattern.search(text):
            around = text[max(0, control.start() - 200) :][:300]
            found.append(Finding("message", f"control characters on {name}", repr(around)))
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


def normal(text: str) -> str:
    """A message without what differs from case to case."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", " ".join(text.split()))
    return re.sub(r"(/[\w.~-]+)+", "/…", re.sub(r"\d+", "N", text))
