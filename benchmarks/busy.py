"""How fast training, evaluation and generation are on a busy machine, beside transformers and a plain PyTorch loop.

It makes its own load, and takes the machine for itself: close other programs.

    python benchmarks/busy.py [--sides SIDE …] [--loads LOAD …] [--rounds 3] [--json busy.jsonl]

Sides come in the opposite order every other round. "before" is glassgpt with torch's default number of threads and
libgomp's default way to wait. On Linux, a figure is taken again if others used the machine meanwhile.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from statistics import median

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BEFORE = {"OMP_NUM_THREADS": str(CORES), "GOMP_SPINCOUNT": "300000"}  # libgomp's own number of spins, said aloud
LOADS = {
    "idle": [],
    "one": ["spin"],
    "two": ["spin", "spin"],
    "torch": ["plain"],  # another training, as users write it
    "late": ["late-spin"],  # comes when the work has begun
    "late-two": ["late-spin", "late-spin"],
}
SIDES = ["sprint", "train", "train-10M", "evaluate", "eager-10M", "compiled-10M", "transformers", "plain"]
OURS = SIDES[:6]
SECONDS = 3.0
FOREIGN = 0.06  # cores that others may use
LATE = 1.0  # seconds until a late load begins, and then until the measurement


# --- what is measured, each in a process of its own ------------------------------------------------------------------


def rate(step: Callable[[], int], seconds: float, warm: int = 3) -> float:
    """Work a second."""
    for _ in range(warm):
        step()
    if late := os.environ.get("BUSY_LATE"):
        Path(late).touch()  # the load begins
        end = time.perf_counter() + 2 * LATE
        while time.perf_counter() < end:
            step()
    began, work = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        work += step()
    return work / (time.perf_counter() - began)


def glassgpt_training(shape: str) -> Callable[[], int]:
    import numpy as np
    import torch

    from glassgpt.bench.work import find_work
    from glassgpt.data.batches import Batches
    from glassgpt.model import make_model
    from glassgpt.threads import settle
    from glassgpt.training.trainer import Step, Trainer

    settle("cpu")
    work = find_work(shape, {}, {"device": "cpu"})
    ids = np.random.default_rng(0).integers(65, size=500_000).astype(np.uint8)
    batches = Batches(ids, work.model.block_size, work.training.batch_size, seed=0)
    torch.manual_seed(0)
    events = iter(Trainer(make_model(work.model), batches, work.training))

    def step() -> int:
        while not isinstance(next(events), Step):
            pass
        return work.tokens

    return step


def evaluation() -> Callable[[], int]:
    import numpy as np
    import torch

    from glassgpt.bench.work import find_work
    from glassgpt.data.batches import Windows
    from glassgpt.model import make_model
    from glassgpt.threads import settle
    from glassgpt.training.evaluation import evaluate

    settle("cpu")
    work = find_work("0.8M", {}, {"device": "cpu"})
    model = make_model(work.model)
    windows = Windows(np.random.default_rng(0).integers(65, size=30_000).astype(np.uint8), 64, 128)
    return lambda: evaluate(model, windows, torch.device("cpu")).tokens


def generation(mode: str) -> Callable[[], int]:
    import torch

    from glassgpt.bench.work import find_work
    from glassgpt.generation.config import SamplingConfig
    from glassgpt.generation.engine import Engine, Request
    from glassgpt.model import make_model
    from glassgpt.threads import settle

    settle("cpu")
    torch.manual_seed(0)
    engine = Engine(make_model(find_work("10.7M", {}, {"device": "cpu"}).model).eval(), mode=mode)  # type: ignore[arg-type]

    def step() -> int:
        if engine.is_idle:
            engine.add(Request([1], SamplingConfig(max_new_tokens=250, temperature=0.0)))
        return len(engine.step())

    return step


def plain() -> Callable[[], int]:
    """nanoGPT's loop on a CPU, on a model of PyTorch's own layers: 0.8M parameters, batches of 12 x 64."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm_1, self.norm_2 = nn.LayerNorm(128), nn.LayerNorm(128)
            self.qkv, self.out = nn.Linear(128, 384), nn.Linear(128, 128)
            self.mlp = nn.Sequential(nn.Linear(128, 512), nn.GELU(), nn.Linear(512, 128))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(self.norm_1(x)).view(12, 64, 3, 4, 32).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(12, 64, 128))
            return x + self.mlp(self.norm_2(x))

    model = nn.Sequential(nn.Embedding(65, 128), *(Block() for _ in range(4)), nn.LayerNorm(128), nn.Linear(128, 65))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    data = torch.randint(65, (500_000,))

    def step() -> int:
        starts = torch.randint(len(data) - 64, (12,))
        x = torch.stack([data[i : i + 64] for i in starts])
        y = torch.stack([data[i + 1 : i + 65] for i in starts])
        loss = F.cross_entropy(model(x).view(-1, 65), y.view(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        return 12 * 64

    return step


def transformers() -> Callable[[], int]:
    """A training loop on GPT2LMHeadModel as its documentation shows it, in 0.8M parameters."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=65, n_positions=64, n_embd=128, n_layer=4, n_head=4)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)

    def step() -> int:
        ids = torch.randint(65, (12, 64))
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return 12 * 64

    return step


MAKERS: dict[str, Callable[[], Callable[[], int]]] = {
    "train": lambda: glassgpt_training("0.8M"),
    "train-10M": lambda: glassgpt_training("10.7M"),
    "evaluate": evaluation,
    "eager-10M": lambda: generation("eager"),
    "compiled-10M": lambda: generation("compiled"),
    "transformers": transformers,
    "plain": plain,
}


def child(side: str, seconds: float) -> None:
    """Measure, or be a load, in this process."""
    if side in ("spin", "late-spin"):
        parent = os.getppid()
        while side == "late-spin" and not Path(os.environ["BUSY_LATE"]).exists():
            time.sleep(0.05)
        while os.getppid() == parent:
            for _ in range(1_000_000):
                pass
    elif seconds <= 0:
        step, parent = MAKERS[side](), os.getppid()
        while os.getppid() == parent:
            step()
    else:
        print(rate(MAKERS[side](), seconds))


# --- the table -------------------------------------------------------------------------------------------------------


@contextmanager
def load(kinds: list[str], late: str):  # type: ignore[no-untyped-def]
    """Some busy processes."""
    processes = [
        subprocess.Popen([sys.executable, __file__, "--child", kind, "0"], env={**os.environ, "BUSY_LATE": late})
        for kind in kinds
    ]
    try:
        if kinds:
            time.sleep(8 if "plain" in kinds else 0.5)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(side: str, env: dict[str, str]) -> float:
    """Tokens a second; of `sprint`, runs an hour as a whole process."""
    settings = {**os.environ, **env}
    if side != "sprint":
        words = [sys.executable, __file__, "--child", side, str(SECONDS)]
        return float(subprocess.run(words, env=settings, check=True, stdout=subprocess.PIPE, text=True).stdout)
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "glassgpt", "train", "shakespeare-sprint", "--out", f"{folder}/run"]
        began = time.perf_counter()
        subprocess.run(words, env=settings, check=True, stdout=subprocess.DEVNULL)
        return 3600 / (time.perf_counter() - began)


def used() -> tuple[float, float] | None:
    """Seconds of CPU time that the whole machine, and processes started here that have ended, have used so far."""
    if not sys.platform.startswith("linux"):
        return None
    import resource

    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    ours = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = sum(int(fields[n]) for n in (0, 1, 2, 5, 6))
    return ticks / os.sysconf("SC_CLK_TCK"), ours.ru_utime + ours.ru_stime


def undisturbed(action: Callable[[], float]) -> float:
    """What an action measures, once nobody else uses the machine meanwhile; at the fourth time in any case."""
    for _ in range(4):
        began, before = time.perf_counter(), used()
        found = action()
        if before is None or (after := used()) is None:
            break
        foreign = ((after[0] - before[0]) - (after[1] - before[1])) / (time.perf_counter() - began)
        if foreign < FOREIGN:
            break
        print(f"  others used {foreign:.2f} cores: again", file=sys.stderr)
        time.sleep(2)
    return found


def one(side: str, env: dict[str, str], kinds: list[str]) -> float:
    """A figure under a load."""

    def action() -> float:
        with tempfile.TemporaryDirectory() as folder:
            late = f"{folder}/late" if "late-spin" in kinds else ""
            with load(kinds, late):
                return measure(side, {**env, "BUSY_LATE": late})

    return undisturbed(action)


def two_at_once(env: dict[str, str]) -> float:
    """Two times `sprint`, begun together: runs an hour of the slower one."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        return min(pool.map(lambda _: measure("sprint", env), range(2)))


def main() -> None:
    """Measure, and print the table."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], float(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", default=SIDES, choices=[*SIDES, "two-at-once"])
    parser.add_argument("--loads", nargs="+", default=list(LOADS), choices=list(LOADS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="append each figure to this file")
    options = parser.parse_args()
    variants: list[tuple[str, str, dict[str, str]]] = []
    for side in options.sides:
        variants.append((side, "policy" if side in OURS or side == "two-at-once" else "default", {}))
        if side in OURS or side == "two-at-once":
            variants.append((side, "before", BEFORE))
    found: dict[tuple[str, str, str], list[float]] = {}
    for number in range(options.rounds):
        for name in options.loads:
            for side, variant, env in variants[:: 1 if number % 2 == 0 else -1]:
                if (side == "sprint" and name.startswith("late")) or (side == "two-at-once" and name != "idle"):
                    continue
                if side == "two-at-once":
                    figure = undisturbed(lambda env=env: two_at_once(env))  # type: ignore[misc]
                else:
                    figure = one(side, env, LOADS[name])
                found.setdefault((side, variant, name), []).append(figure)
                print(f"round {number + 1}, {name}: {side} ({variant}) {figure:,.0f}", file=sys.stderr, flush=True)
                if options.json:
                    with options.json.open("a", encoding="utf-8") as file:
                        file.write(json.dumps([side, variant, name, figure]) + "\n")
    print("| | " + " | ".join(options.loads) + " |\n|---|" + "---|" * len(options.loads))
    for side, variant, _ in variants:
        cells = []
        best = median(found.get((side, variant, "idle"), [0])) or None
        for name in options.loads:
            figures = found.get((side, variant, name))
            share = f" ({100 * median(figures) / best:.0f} %)" if figures and best and name != "idle" else ""
            cells.append(f"{median(figures):,.0f}{share}" if figures else "")
        print(f"| {side}, {variant} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
