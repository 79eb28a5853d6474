"""A command with a time limit: whatever becomes of it, whoever started it goes on."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

LAST = 30_000  # characters of what a command said on its standard error: of many threads' stacks, too


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        state: done, failed, timed out or killed.
        code: its exit code; None if it timed out.
        seconds: that it took.
        said: the end of its standard error.
    """

    state: str
    code: int | None
    seconds: float
    said: str


def run_limited(command: Sequence[str], seconds: float, env: Mapping[str, str] | None = None) -> Ended:
    """Run a command for some seconds at most, then end it and all that it started. It shares this one's output."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        # A group of its own, to be ended as one; not a session of its own, which would outlive this process's.
        group = {"process_group": 0} if os.name == "posix" else {}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors, env=env, **group)  # type: ignore[call-overload]
        try:
            code: int | None = process.wait(timeout=max(0.1, seconds))
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - LAST))
        said = errors.read().decode("utf-8", errors="replace").strip()
    state = "timed out" if code is None else "killed" if code < 0 else "failed" if code else "done"
    return Ended(state, code, time.monotonic() - began, said)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Also what a command left running when it ended, such as a compiler's workers."""
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):  # (macOS says the second of a group that is gone)
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
