"""Which machine this is, and what a process on it takes."""

import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from glassgpt.threads import in_force


@dataclass(frozen=True)
class Machine:
    """What figures were measured on.

    Attributes:
        device: cpu, cuda:0, mps.
        name: of the processor or the graphics card.
        threads: that torch works with on the CPU.
        threads_chosen_by: see `glassgpt.threads.Threads`.
        capability: the vector instructions that torch uses, or the card's compute capability.
    """

    device: str
    name: str
    threads: int
    threads_chosen_by: str
    capability: str
    torch: str
    python: str
    system: str

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' * (self.threads != 1)}, chosen by: {self.threads_chosen_by}"
        return f"{self.device} ({self.name}, {self.capability}{threads if self.device == 'cpu' else ''})"

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def this_machine(device: torch.device) -> Machine:
    """The machine and the device of it that is used."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        capability = "sm_{}{}".format(*torch.cuda.get_device_capability(device))
    else:
        name, capability = _processor(), torch.backends.cpu.get_cpu_capability()
    threads = in_force()
    return Machine(
        device=str(device),
        name=name,
        threads=threads.number,
        threads_chosen_by=threads.chosen_by,
        capability=capability,
        torch=str(torch.__version__),
        python=platform.python_version(),
        system=platform.system(),
    )


def _processor() -> str:
    """What the processor calls itself; `platform` does not know it on every system."""
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        named = next((line for line in lines if line.startswith("model name")), "")
        return named.partition(":")[2].strip() or platform.machine()
    if sys.platform == "darwin":
        asked = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip() or platform.machine()
    return platform.processor() or platform.machine()


def waiter(device: torch.device) -> Callable[[], None]:
    """A function that waits until the device has done all that it was given."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return torch.mps.synchronize if device.type == "mps" else lambda: None
