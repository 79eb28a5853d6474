"""Let the batched engine work through thousands of requests that come, begin alike, and are cancelled at random.

    python benchmarks/soak_engine.py [--requests 10000] [--slots 8] [--seed 0] [--mode eager]

Every text that is finished is compared with what the plain model writes by itself; the memory that the process takes is
noted on the way; its peak must not grow.
"""

import argparse
import json
import random
import sys
import time

import torch

from glassgpt.bench.memory import peak_memory
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.engine import Engine, Request
from glassgpt.model import ModelConfig, make_model

LONGEST = 40  # tokens of a text: past the block of 32 for some


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mode", default="eager", choices=("eager", "compiled", "graphs"))
    options = parser.parse_args()
    rng = random.Random(options.seed)
    torch.manual_seed(options.seed)
    config = ModelConfig(vocab_size=50, block_size=32, n_layer=2, n_head=2, n_embd=32, init_std=0.3, position="rotary")
    model = make_model(config).eval()
    engine = Engine(model, slots=options.slots, mode=options.mode)
    greedy = SamplingConfig(temperature=0)
    prompts = [[rng.randrange(50) for _ in range(rng.randint(1, 20))] for _ in range(60)]
    prompts += [[*prompt, *(rng.randrange(50) for _ in range(rng.randint(1, 8)))] for prompt in prompts]  # alike
    expected = {tuple(prompt): alone(model, prompt) for prompt in prompts}
    under_way: dict[int, tuple[list[int], int, list[int]]] = {}
    counts = dict.fromkeys(("added", "finished", "cancelled", "tokens"), 0)
    memory: list[int] = []
    began = time.monotonic()
    while counts["added"] < options.requests or under_way:
        if counts["added"] < options.requests and rng.random() < 0.5:
            prompt, length = rng.choice(prompts), rng.randint(1, LONGEST)
            ticket = engine.add(Request(prompt, greedy.replace(max_new_tokens=length)))
            under_way[ticket] = (prompt, length, [])
            counts["added"] += 1
            if counts["added"] % (options.requests // 10 or 1) == 0:
                memory.append(peak_memory(torch.device("cpu")) or 0)
                print(f"{counts['added']:,} requests, {memory[-1] / 1e6:.0f} MB", file=sys.stderr, flush=True)
        if under_way and rng.random() < 0.05:
            ticket = rng.choice(list(under_way))
            engine.cancel(ticket)
            del under_way[ticket]
            counts["cancelled"] += 1
        for token in engine.step():
            prompt, length, written = under_way[token.ticket]
            written.append(token.id)
            counts["tokens"] += 1
            if token.finish_reason:
                assert written == expected[tuple(prompt)][:length], f"request {token.ticket} is garbled"
                del under_way[token.ticket]
                counts["finished"] += 1
    assert engine.is_idle
    assert counts["added"] == counts["finished"] + counts["cancelled"], f"rows were lost: {counts}"
    print(json.dumps({**counts, "seconds": round(time.monotonic() - began), "memory_mb": [m // 10**6 for m in memory]}))


def alone(model: torch.nn.Module, prompt: list[int]) -> list[int]:
    """What the plain model writes: the likeliest after the whole context, cropped to its last half when it is full."""
    context, written = list(prompt), []
    for _ in range(LONGEST):
        context = context[-16:] if len(context) > 32 else context
        with torch.no_grad():
            written.append(int(model(torch.tensor([context]))[0, -1].argmax()))
        context.append(written[-1])
    return written


if __name__ == "__main__":
    main()
