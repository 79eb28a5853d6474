"""Everything about one CUDA GPU in one command of at most eight minutes: is it right, and how fast is it?

    python3 benchmarks/gpu.py --needs                    # at home: how to fetch the wheels to bring along
    python3 benchmarks/gpu.py --wheels wheels --out gpu  # there: gpu.json after every part, gpu.md with tables
    python3 benchmarks/gpu.py --device cpu --small       # does the script run at all? Two minutes on two cores

It runs from a source checkout, nothing installed. Each part is a process of its own with its own time limit: one that
fails, hangs or runs out of memory is noted, and the others go on. The exit code is 0 if all went well, 1 if something
did not, 2 if nothing could be done. docs/gpu.md says what is measured.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from on_gpu.limited import Ended, run_limited
from on_gpu.packages import ROOT, all_needed, download_line, missing, unpack
from on_gpu.part import NO_DEVICE, NO_PACKAGE, Place, run_part
from on_gpu.table import page

SECONDS = 450.0  # of the eight minutes, the rest for what is around it
SHARES = {  # of the time; what one leaves over, those after it have
    "machine": 0.06,
    "correctness": 0.14,
    "modes": 0.09,
    "compile": 0.17,
    "decoding": 0.16,
    "recipe": 0.10,
    "training": 0.28,
}
SAID = 4000  # characters that are kept of what a part said on its standard error
TF32 = ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")  # float32 is to be float32
STATES = {NO_DEVICE: "no device", NO_PACKAGE: "skipped"}


def main() -> int:
    options = _options()
    if options.needs:
        print(download_line(all_needed(), options.python))
        return 0
    if options.part:
        return run_part(options.part, Place(options.device, options.small, options.rows, options.until))
    unknown = [name for name in options.parts.split(",") if name not in SHARES]
    if unknown:
        print(f"--parts {unknown[0]}: one or more of {','.join(SHARES)}", file=sys.stderr)
        return 2
    # All of a run's temporary files, its caches among them: what is compiled is compiled anew, and seen by all parts.
    with tempfile.TemporaryDirectory(prefix="glassgpt-gpu-") as folder:
        return Session(options, Path(folder)).run()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="file to write, with .json and .md added")
    parser.add_argument("--parts", default=",".join(SHARES), help="which, with commas (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time for all (default: %(default)g)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu, which stands in (default: cuda)")
    parser.add_argument("--small", action="store_true", help="tiny shapes: does everything run?")
    parser.add_argument("--wheels", type=Path, default=ROOT / "wheels", help="folder of wheels that were brought along")
    parser.add_argument("--needs", action="store_true", help="only print how to fetch wheels that may be missing")
    parser.add_argument("--python", default="", help="with --needs: Python's version there (default: this one's)")
    for inner in ("--part", "--rows", "--until"):  # how a part is called
        kinds: dict[str, Any] = {"--rows": Path, "--until": float}
        parser.add_argument(inner, type=kinds.get(inner, str), help=argparse.SUPPRESS)
    return parser.parse_args()


class Session:
    """One run of all parts, whose results are on the disk after each of them."""

    def __init__(self, options: argparse.Namespace, folder: Path):
        self.options, self.folder = options, folder
        self.began = time.monotonic()
        self.found: dict[str, Any] = {
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": sys.argv[1:],
            "commit": _commit(),
            "device": options.device,
            "small": options.small,
            "budget_seconds": options.seconds,
            "parts": {},
        }

    def run(self) -> int:
        """Bring in what is missing, then part after part."""
        self.env = self._environment()
        self._save()
        for name in [name for name in SHARES if name in self.options.parts.split(",")]:
            if not self._run_part(name):
                print(self.found["parts"][name]["rows"][-1]["why"], file=sys.stderr)
                return 2
        self._save()
        print(page(self.found))
        print(f"{self.path('.json')} and {self.path('.md')}: {self.found['seconds']:.0f} s")
        return int(any(part["state"] != "done" for part in self.found["parts"].values()))

    def path(self, ending: str) -> Path:
        """One of the two files that are written."""
        out: Path = self.options.out
        return out.with_name(out.name.removesuffix(".json") + ending)

    def _environment(self) -> dict[str, str]:
        """Of the parts: where packages are, and caches of their own."""
        absent = missing()
        site = self.folder / "site"
        brought = unpack(self.options.wheels, site) if self.options.wheels.is_dir() else []
        absent = [name for name in absent if name not in brought]
        self.found["packages"] = {"brought": brought, "missing": absent}
        if brought:
            print(f"from {self.options.wheels}: {', '.join(brought)}")
        if absent:
            print(f"missing: {', '.join(absent)}. Where packages can be fetched, in the folder of this checkout:")
            print(f"  {download_line(absent)}")
            print("Bring the folder along (--wheels names another place). What works without them goes on.", flush=True)
        kept = {key: value for key, value in os.environ.items() if key not in TF32}
        places = [str(site), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
        if self.options.device == "cpu":  # two threads that share cores with other work wait for each other
            kept.setdefault("OMP_NUM_THREADS", "1")
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join(places),
            "PYTHONUNBUFFERED": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "inductor"),
            "TRITON_CACHE_DIR": str(self.folder / "triton"),
        }

    def _run_part(self, name: str) -> bool:
        """Run a part within its share of the time, and what those before it left over; whether to go on."""
        parts = [part for part in SHARES if part in self.options.parts.split(",")]
        whole = sum(SHARES[part] for part in parts)
        share = sum(SHARES[part] for part in parts[: parts.index(name) + 1]) / whole
        seconds = self.options.seconds * share - (time.monotonic() - self.began)
        print(f"{name}: up to {seconds:.0f} s", flush=True)
        rows = self.folder / f"{name}.json"
        # The part itself says where it hangs, a second before it is ended.
        command = [sys.executable, __file__, "--part", name, "--rows", str(rows), "--device", self.options.device]
        command += ["--until", str(time.time() + seconds), *(["--small"] if self.options.small else [])]
        ended = run_limited(command, seconds, self.env)
        self.found["parts"][name] = part_result(ended, rows)
        self._save()
        return ended.code != NO_DEVICE

    def _save(self) -> None:
        self.found["seconds"] = round(time.monotonic() - self.began, 1)
        self.path(".json").parent.mkdir(parents=True, exist_ok=True)
        for ending, text in ((".json", json.dumps(self.found, indent=1)), (".md", page(self.found))):
            temporary = self.path(ending + ".tmp")
            temporary.write_text(text + "\n", encoding="utf-8")
            temporary.replace(self.path(ending))


def part_result(ended: Ended, rows: Path) -> dict[str, Any]:
    """What a part came to, from how its process ended and what it had written by then."""
    found: list[dict[str, Any]] = []
    with suppress(OSError, ValueError):
        found = json.loads(rows.read_text(encoding="utf-8"))
    state = STATES.get(ended.code or 0, ended.state)
    if state == "failed" and "Timeout (" in ended.said:  # how faulthandler begins what it says of a process that hangs
        state = "timed out"
    if "out of memory" in (row.get("state") for row in found):
        state = "out of memory" if state == "failed" else state
    if state == "killed":
        state = f"killed by signal {-(ended.code or 0)}"
    result: dict[str, Any] = {"state": state, "seconds": round(ended.seconds, 1), "rows": found}
    return result if state == "done" else {**result, "said": ended.said[-SAID:]}


def _commit() -> str | None:
    """Which source this is, if git is here and knows."""
    words: Sequence[str] = ("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    return None


if __name__ == "__main__":
    sys.exit(main())
