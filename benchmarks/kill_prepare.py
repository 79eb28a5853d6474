"""Kill `glassgpt prepare` at random moments, and compare what it ends with to an undisturbed run, byte for byte.

    python benchmarks/kill_prepare.py TEXT [--tokenizer byte] [--kills 50] [--seed 0]

Each time the folder is finished it is compared, removed, and begun again, until there were enough kills. POSIX only.
"""

import argparse
import filecmp
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--tokenizer", default="byte")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, out = Path(folder) / "whole", Path(folder) / "out"
        words = [sys.executable, "-m", "glassgpt", "prepare", options.text, "--tokenizer", options.tokenizer, "--out"]
        began = time.monotonic()
        subprocess.run([*words, str(whole)], check=True, stdout=subprocess.DEVNULL)
        usual = time.monotonic() - began
        names = sorted(file.name for file in whole.iterdir())
        kills = finished = 0
        last = False
        while not last:
            last = kills == options.kills  # this one may end by itself
            # (what workers say when their parent is gone is of no interest)
            process = subprocess.Popen([*words, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                code = process.wait(None if last else rng.uniform(0.1, 1.0) * usual)
                if code != 0:
                    sys.exit(f"it ended with {code}")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
            if out.exists():
                same = filecmp.cmpfiles(whole, out, names, shallow=False)[0]
                if sorted(file.name for file in out.iterdir()) != names or sorted(same) != names:
                    sys.exit(f"after {kills} kills: not the same files")
                finished += 1
                shutil.rmtree(out)
        left = sorted(file.name for file in Path(folder).iterdir() if file.name.startswith("."))
        print(f"{kills} kills; finished {finished} times, each time the same {len(names)} files; left beside: {left}")


if __name__ == "__main__":
    main()
