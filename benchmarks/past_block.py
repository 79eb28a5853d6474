"""What it costs to write past the block: dropping the oldest half and reading the rest again, or rotating.

    python benchmarks/past_block.py [--block 256] [--layers 6] [--width 384] [--rounds 5] [--mode compiled]

Tokens a second of one text, with random weights and rotary positions: inside the block, then over the next four blocks
for each answer to a full one; and of the plain model that looks at the last block again for each, without a cache.
"""

import argparse
import statistics
import time

import torch

from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.engine import Engine, Request
from glassgpt.model import ModelConfig, make_model

PLAIN_TOKENS = 32  # of the model without a cache: each takes as long as the last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("block", 256), ("layers", 6), ("width", 384), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--mode", default="compiled", choices=("eager", "compiled", "graphs"))
    options = parser.parse_args()
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=65,
        block_size=options.block,
        n_layer=options.layers,
        n_head=options.width // 64 or 1,
        n_embd=options.width,
        position="rotary",
        norm="rmsnorm",
    )
    model = make_model(config).eval()
    engine = Engine(model, mode=options.mode, rotating=True)
    speeds: dict[str, list[float]] = {}
    for seed in range(options.rounds + 1):  # the first to warm up
        for when_full in ("crop", "rotate"):
            inside, past = decode(engine, when_full, seed)
            speeds.setdefault("inside the block", []).append(inside)
            speeds.setdefault(f"past it, {when_full}", []).append(past)
        speeds.setdefault("without a cache, at the block's end", []).append(plain(model))
    for name, found in speeds.items():
        kept = found[len(found) // (options.rounds + 1) :]
        print(f"{name:36} {statistics.median(kept):7,.0f} tokens/s ({min(kept):,.0f} to {max(kept):,.0f})")


def decode(engine: Engine, when_full: str, seed: int) -> tuple[float, float]:
    """Tokens a second from the second token to the block's end, and over the next four blocks."""
    block = engine.block_size
    config = SamplingConfig(temperature=0, max_new_tokens=5 * block - 1, when_full=when_full)
    engine.add(Request([seed], config))
    engine.step()
    began = time.perf_counter()
    for _ in range(block - 1):
        engine.step()
    full = time.perf_counter()
    steps = 0
    while not engine.is_idle:
        engine.step()
        steps += 1
    return (block - 1) / (full - began), steps / (time.perf_counter() - full)


@torch.inference_mode()
def plain(model: torch.nn.Module) -> float:
    """Tokens a second where the whole block is looked at for each."""
    ids = torch.zeros(1, model.config.block_size, dtype=torch.int64)
    began = time.perf_counter()
    for _ in range(PLAIN_TOKENS):
        ids = torch.cat((ids[:, 1:], model(ids)[:, -1:].argmax(dim=-1)), dim=1)
    return PLAIN_TOKENS / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
