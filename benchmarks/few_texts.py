"""Some texts at once with the compiled step, one row after the other, and together: which is faster for how many?

    python benchmarks/few_texts.py [--shape 0.8M 10.7M 124M] [--rounds 5]

Tokens a second of all texts, 39 each after a prompt of 16; the two ways in turn.
"""

import argparse
import statistics
import time

import torch

from glassgpt.bench.writing import find_writing
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.engine import Engine, Request
from glassgpt.model import make_model

TEXTS = (1, 2, 4, 8, 16)
TOKENS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", default=["0.8M", "10.7M", "124M"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for shape in options.shape:
        torch.manual_seed(0)
        engine = Engine(make_model(find_writing(shape, {}).model), mode="compiled", slots=max(TEXTS), tell=print)
        speeds: dict[tuple[int, int], list[float]] = {}
        for _ in range(options.rounds):
            for texts in TEXTS:
                for apart in (1, max(TEXTS)):
                    engine._decoder.apart = apart
                    speeds.setdefault((texts, apart), []).append(speed(engine, texts))
        for texts in TEXTS:
            together, apart = (statistics.median(speeds[texts, apart]) for apart in (1, max(TEXTS)))
            print(f"{shape:6} {texts:3} texts: apart {apart:7,.0f} tokens/s, together {together:7,.0f}")


def speed(engine: Engine, texts: int) -> float:
    """Tokens a second after the first of each text."""
    for _ in range(texts):
        prompt = torch.randint(0, 64, (16,)).tolist()  # another one each time: what has been read is kept
        engine.add(Request(prompt, SamplingConfig(temperature=0, max_new_tokens=TOKENS)))
    engine.step()
    began = time.perf_counter()
    while not engine.is_idle:
        engine.step()
    return texts * (TOKENS - 1) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
