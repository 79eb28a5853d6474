"""The tests, and what they do before they import anything: what surrounds them is the same on every machine and day.

Variables that a user sets for other programs, or for glassgpt at other times, change nothing here; commands that tests
start inherit that. What stays: where the texts, the browser and the temporary folders are, and what is of the system.
"""

import os
import sys
import warnings
from collections.abc import MutableMapping
from types import FrameType
from typing import Any

KEPT = {"GLASSGPT_DATA", "GLASSGPT_CHROMIUM", "GLASSGPT_NEEDS_BROWSER", "MPLCONFIGDIR"}
REMOVED = {
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "EDITOR", "VISUAL"),
    *("PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONOPTIMIZE", "PYTHONIOENCODING", "PYTHONUTF8", "SOURCE_DATE_EPOCH"),
    *("MATPLOTLIBRC", "LANG", "LANGUAGE", "TORCH_LOGS", "TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE", "NO_PROXY"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY"),
}
REMOVED_PREFIXES = ("GLASSGPT_", "WANDB_", "MPL", "LC_", "OMP_", "GOMP_", "KMP_", "MKL_", "TRANSFORMERS_", "HF_")
DEPRECATIONS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
OWN = {"glassgpt", "tests"}
FOR_OTHERS = {"warnings", "_py_warnings"}  # of the standard library: `deprecated` is there, which others decorate with


def settle(environment: MutableMapping[str, str]) -> None:
    """Remove what would change the tests, set what they are written for, and make paths hold in every folder."""
    for name in list(environment):
        wanted = name.upper()  # proxies are there in small letters, too
        if wanted not in KEPT and (wanted in REMOVED or wanted.startswith(REMOVED_PREFIXES)):
            del environment[name]
    environment |= {"TERM": "xterm", "OMP_NUM_THREADS": "1"}  # processes that share cores wait for each other's threads
    for name in ("GLASSGPT_DATA", "PYTHONPATH"):
        if environment.get(name):
            environment[name] = os.pathsep.join(map(os.path.abspath, environment[name].split(os.pathsep)))


def blame_who_deprecates() -> None:
    """Let a deprecation that another package lays at our door count as of that package.

    Where a warning counts is where `filterwarnings` in pyproject.toml looks, and packages choose to name their caller:
    what their next version says of our calls would fail the tests of whoever happens to install it.
    """
    warn = warnings.warn

    def warn_in_place(
        message: Any, category: Any = None, stacklevel: int = 1, source: Any = None, **skipped: Any
    ) -> None:
        kind = type(message) if isinstance(message, Warning) else category or UserWarning
        raiser = sys._getframe(1)
        if issubclass(kind, DEPRECATIONS) and _package(raiser) not in OWN | {*sys.stdlib_module_names} - FOR_OTHERS:
            blamed: FrameType | None = raiser
            for _ in range(stacklevel - 1):
                blamed = blamed and blamed.f_back
            while blamed and blamed.f_code.co_filename.startswith(skipped.get("skip_file_prefixes", ())):
                blamed = blamed.f_back
            if blamed and _package(blamed) in OWN:
                stacklevel, skipped = 1, {}
        warn(message, category, stacklevel + 1, source, **skipped)  # one more: this function

    warnings.warn = warn_in_place


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


settle(os.environ)
blame_who_deprecates()
