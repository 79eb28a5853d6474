"""How much memory a process took at most, and the same for some steps of training in a process of their own.

Run as a module, it is that process: it reads what to do from standard input, and its last line says what it took.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from glassgpt.bench.training import make_side
from glassgpt.bench.work import Work
from glassgpt.device import choose_device
from glassgpt.errors import UserError

STEPS = 3  # the optimizer's state is there after the first, and lies beside the gradients of the second


def peak_memory(device: torch.device) -> int | None:
    """The most bytes taken so far: on a GPU by its tensors, on a CPU by the whole process. None: it cannot be told.

    Linux says it in /proc (`getrusage` there counts what the parent had when it started this process, too), macOS by
    `getrusage`, Windows to psutil, which the extra `bench` has there. On MPS, it is what the driver holds now, which is
    the peak since torch gives nothing back by itself.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)
    if sys.platform == "win32":
        try:
            import psutil
        except ImportError:
            return None
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure_memory(work: Work, side: str) -> int | None:
    """The peak of a process that makes a side and trains it for a few steps.

    Raises:
        UserError: it did not live to tell.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "glassgpt.bench.memory"],
        input=json.dumps({"work": work.to_dict(), "side": side, "threads": torch.get_num_threads()}),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}, which may be for lack of memory"]
        raise UserError(f"{side}: the process that measures its memory failed: {said[-1]}")
    peak: int | None = json.loads(ended.stdout.splitlines()[-1])["peak"]
    return peak


def _main() -> None:
    asked: dict[str, Any] = json.load(sys.stdin)
    torch.set_num_threads(asked["threads"])
    work = Work.from_dict(asked["work"])
    side = make_side(asked["side"], work)
    for _ in range(STEPS):
        side.step()
    side.finish()
    print(json.dumps({"peak": peak_memory(choose_device(work.training.device))}))


if __name__ == "__main__":
    _main()
