"""Training speed beside transformers' GPT-2: the same shape, the same batches, both sides in turn in one process.

    python benchmarks/train_speed.py [--shape 0.8M|10.7M] [--rounds 9] [--seconds 2]

Prints tokens/s of each side (median over the rounds) and the ratio of each round (median, lowest, highest). Absolute
figures drift with the machine; the ratios of one run are what can be compared. Needs the extra `bench`.

transformers' side is the plain loop most scripts have: its own loss, torch.optim.AdamW as it comes, clipping; a second
pair gives it the fused AdamW that glassgpt chooses. nanoGPT's loop has the plain one on a CPU.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, logging

from glassgpt.data.batches import Batches
from glassgpt.model import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.recipes import TrainingConfig
from glassgpt.training.trainer import Trainer

SHAPES = {  # layers, heads, width, context, batch
    "0.8M": (4, 4, 128, 64, 12),
    "10.7M": (6, 6, 384, 256, 8),
}
VOCAB = 65


def ours(batches: Batches, shape: tuple[int, int, int, int, int]) -> Callable[[], None]:
    """One training step of glassgpt at a time."""
    layers, heads, width, context, _ = shape
    model = GPT(
        ModelConfig(vocab_size=VOCAB, block_size=context, n_layer=layers, n_head=heads, n_embd=width, bias=False)
    )
    config = TrainingConfig(max_steps=10**9, device="cpu", eval_every=10**9)
    events = iter(Trainer(model, batches, config))
    return lambda: next(events) and None


def theirs(batches: Batches, shape: tuple[int, int, int, int, int], *, fused: bool) -> Callable[[], None]:
    """One training step of transformers' GPT-2 at a time."""
    layers, heads, width, context, _ = shape
    settings = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=context, n_embd=width, n_layer=layers, n_head=heads, use_cache=False, **settings
    )
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
    number = 0

    def step() -> None:
        nonlocal number
        inputs, _ = batches(number)
        number += 1
        model(input_ids=inputs, labels=inputs).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def rate(step: Callable[[], None], seconds: float) -> float:
    """Steps per second."""
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        steps += 1
    return steps / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="0.8M")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    logging.set_verbosity_error()
    shape = SHAPES[options.shape]
    context, batch = shape[3:]
    ids = np.random.default_rng(0).integers(VOCAB, size=100_000).astype(np.uint8)
    batches = Batches(ids, context, batch)
    sides = {
        "glassgpt": ours(batches, shape),
        "transformers": theirs(batches, shape, fused=False),
        "transformers, fused AdamW": theirs(batches, shape, fused=True),
    }
    for step in sides.values():
        rate(step, 1.0)  # warm up
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, step in sides.items():
            rates[name].append(rate(step, options.seconds))
    print(
        f"{options.shape}: {shape[0]} layers, width {shape[2]}, context {context}, batch {batch}; "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.rounds} rounds"
    )
    for name, values in rates.items():
        line = f"{name:27} {statistics.median(values) * batch * context:9,.0f} tokens/s"
        if name != "glassgpt":
            ratios = [mine / other for mine, other in zip(rates["glassgpt"], values, strict=True)]
            line += (
                f"   glassgpt is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
            )
        print(line)


if __name__ == "__main__":
    main()
