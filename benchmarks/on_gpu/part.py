"""One part of `benchmarks/gpu.py`, in a process of its own: its rows are on the disk as soon as each is known."""

import faulthandler
import importlib
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

NO_DEVICE, NO_PACKAGE = 3, 4  # exit codes
SPARE = 3.0  # seconds before the end in which nothing is begun
SOURCES = {  # of each part: modules of checks, or the function of a module
    "machine": "machine:measure",
    "correctness": "checks runs",
    "modes": "decoding",
    "compile": "compiled",
    "decoding": "figures_decoding:measure",
    "recipe": "figures_recipe:measure",
    "training": "figures_training:measure",
}


class NoDeviceError(RuntimeError):
    """There is no such device here."""


@dataclass
class Place:
    """Where a part runs, and for how long.

    Attributes:
        device: its name.
        small: tiny shapes, to see that everything runs.
        path: of the file of rows.
        until: when it must have ended, by `time.time`.
        rows: those so far.
    """

    device: str
    small: bool
    path: Path
    until: float
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def left(self) -> float:
        """Seconds in which something may be begun."""
        return self.until - SPARE - time.time()

    def add(self, **row: Any) -> None:
        """Note a row, and write all of them."""
        self.rows.append(row)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.rows), encoding="utf-8")
        temporary.replace(self.path)
        print("  " + ", ".join(f"{key}: {_short(value)}" for key, value in row.items()), flush=True)

    def attempt(self, work: Callable[[], Any], *, needs: float = 0.0, **names: Any) -> Any:
        """Do a piece of work, if there is time for it; what fails becomes a row of its own, and None is returned."""
        if self.left < needs:
            self.add(**names, state="no time", needed=needs)
            return None
        began = time.perf_counter()
        try:
            return work()
        except Exception as error:
            self.add(**names, **described(error), seconds=round(time.perf_counter() - began, 1))
            return None


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:300]


def described(error: Exception) -> dict[str, Any]:
    """What became of something that failed."""
    if isinstance(error, ImportError):
        return {"state": "skipped", "why": f"needs the package {error.name}"}
    if isinstance(error, AssertionError):
        return {"state": "failed", "why": str(error) or _last_line(error)}
    name = type(error).__name__
    state = "out of memory" if name == "OutOfMemoryError" else "failed"
    return {"state": state, "why": f"{name}: {error}"[:1000], "at": _last_line(error)}


def _last_line(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return "; ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.line}" for frame in frames[-3:])


def run_checks(place: Place, modules: list[str]) -> None:
    """All checks of some modules, each whatever becomes of the others."""
    import torch

    torch.set_float32_matmul_precision("highest")
    device = torch.device(place.device)
    for name in modules:
        for title, check in importlib.import_module(f".{name}", __package__).CHECKS.items():
            began = time.perf_counter()
            found = place.attempt(partial(check, device), check=title)
            if found is not None:
                place.add(check=title, state="passed", seconds=round(time.perf_counter() - began, 1), **found)


def run_part(name: str, place: Place) -> int:
    """Run a part; its exit code."""
    # Where it hangs is said before it is ended.
    faulthandler.dump_traceback_later(max(1.0, place.until - time.time() - 1.0), exit=True)
    try:
        require_device(place.device)
        source = SOURCES[name]
        module, _, function = source.partition(":")
        if function:
            getattr(importlib.import_module(f".{module}", __package__), function)(place)
        else:
            run_checks(place, source.split())
    except NoDeviceError as error:
        place.add(state="skipped", why=str(error))
        return NO_DEVICE
    except ImportError as error:
        place.add(**described(error))
        return NO_PACKAGE
    return int(any(row.get("state") in ("failed", "out of memory") for row in place.rows))


def require_device(name: str) -> None:
    """Make sure that the device is there.

    Raises:
        NoDeviceError: it is not.
    """
    import torch

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise NoDeviceError(f"torch {torch.__version__} finds no CUDA GPU here (--device cpu --small stands in)")
