"""Checks of generating on a device: every mode gives the ids that the CPU finds in float64, whatever runs beside it."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from glassgpt.errors import UserError
from glassgpt.generation.beam import beam_search
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.contrastive import contrastive_search
from glassgpt.generation.engine import Engine, Request
from glassgpt.generation.graphs import rows_of_graph
from glassgpt.inspection.findings import look
from glassgpt.model import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.tokenizers import ByteTokenizer

from .stand_in import stand_in
from .training import relative

Figures = dict[str, Any]
Ids = list[int]

TINY = ModelConfig(vocab_size=37, block_size=24, n_layer=2, n_head=4, n_embd=32)
RICH = {"ngrams": 3, "qk_norm": True, "n_kv_head": 2, "norm": "rmsnorm", "tie_weights": False}
MODELS: dict[str, dict[str, Any]] = {
    "learned": {},
    "rotary, n-grams, grouped": {"position": "rotary", **RICH},
    "sinusoidal": {"position": "sinusoidal", "attention": "manual"},
}
STEPS = 40  # beyond the block, so that contexts are cropped on the way
GREEDY = SamplingConfig(temperature=0, max_new_tokens=STEPS)
TIED = 1e-3  # logits this near may come in either order


def make_gpt(**changes: Any) -> GPT:
    """A model whose likeliest tokens are clearly so."""
    torch.manual_seed(0)
    model = GPT(TINY.replace(**changes)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def prompts(lengths: Sequence[int]) -> list[Ids]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(TINY.vocabulary, (length,), generator=generator).tolist() for length in lengths]


PROMPTS = prompts((3, 24, 1, 10, 7, 2, 15, 4, 9, 5))


class Definition:
    """The likeliest next token after the whole context, in float64 on the CPU, without a cache.

    A full context is cropped to its last half.
    """

    def __init__(self, **changes: Any):
        self.model = make_gpt(**changes).double()
        self._right: dict[tuple[int, ...], set[tuple[int, ...]]] = {}  # ids that were looked at before, by prompt

    def scores(self, context: Ids) -> torch.Tensor:
        """Of what follows, (V,)."""
        with torch.no_grad():
            return self.model(torch.tensor([context]))[0, -1]

    def differs(self, prompt: Ids, got: Ids, steps: int = STEPS) -> str | None:
        """What is wrong with some ids, None if nothing is; where two tokens are tied, either is right."""
        if len(got) != steps:
            return f"{len(got)} ids instead of {steps}"
        known = self._right.setdefault(tuple(prompt), set())
        if any(ids[:steps] == tuple(got) for ids in known):
            return None
        context = list(prompt)
        for step, token in enumerate(got):
            if len(context) > TINY.block_size:
                context = context[-(TINY.block_size // 2) :]
            scores = self.scores(context)
            if float(scores.max() - scores[token]) > TIED:
                return f"id {token} instead of {int(scores.argmax())} at step {step}"
            context.append(token)
        known.add(tuple(got))
        return None


def written(engine: Engine, *requests: Request) -> list[Ids]:
    """The ids of each request, all of them added at once."""
    tickets = [engine.add(request) for request in requests]
    ids: dict[int, Ids] = {ticket: [] for ticket in tickets}
    while not engine.is_idle:
        for token in engine.step():
            ids[token.ticket].append(token.id)
    return [ids[ticket] for ticket in tickets]


def every_mode(device: torch.device) -> Figures:
    """Greedy ids of ten prompts, alone and beside each other, more than there are rows, in every mode."""
    count = 0
    with stand_in(device):
        for name, changes in MODELS.items():
            definition, model = Definition(**changes), make_gpt(**changes).to(device)
            for mode in ("eager", "graphs"):
                for slots in (1, 3, 10):
                    engine = Engine(model, slots=slots, mode=mode)  # type: ignore[arg-type]
                    assert engine.mode == mode
                    found = written(engine, *(Request(prompt, GREEDY) for prompt in PROMPTS))
                    for prompt, ids in zip(PROMPTS, found, strict=True):
                        wrong = definition.differs(prompt, ids)
                        assert wrong is None, f"{name}, {mode}, {slots} slots, prompt {prompt}: {wrong}"
                        count += len(ids)
    return {"ids": count}


def graphs_come_and_go(device: torch.device) -> Figures:
    """Rows that end and begin at any step, some cancelled, some that share a beginning, ten times over."""
    with stand_in(device):
        definition, model = Definition(**RICH), make_gpt(**RICH).to(device)
        engine = Engine(model, slots=10, mode="graphs")
        generator = torch.Generator().manual_seed(2)
        for turn in range(10):
            lengths = torch.randint(1, STEPS, (len(PROMPTS),), generator=generator).tolist()
            wanted = {
                engine.add(Request(prompt, GREEDY.replace(max_new_tokens=length))): (prompt, length)
                for prompt, length in zip(PROMPTS, lengths, strict=True)
            }
            ids: dict[int, Ids] = {ticket: [] for ticket in wanted}
            cancelled = list(wanted)[turn]
            while not engine.is_idle:
                for token in engine.step():
                    ids[token.ticket].append(token.id)
                if len(ids[cancelled]) == wanted[cancelled][1] // 2:
                    engine.cancel(cancelled)
            for ticket, (prompt, length) in wanted.items():
                wrong = None if ticket == cancelled else definition.differs(prompt, ids[ticket], length)
                assert wrong is None, f"turn {turn}, prompt {prompt}: {wrong}"
        captured = sorted(engine._decoder._graphs._captured)  # type: ignore[union-attr]
    most = {min(rows_of_graph(rows), 10) for rows in range(1, 11)}
    assert set(captured) <= most, f"graphs for {captured} rows, but {sorted(most)} would do"
    return {"graphs": len(captured)}


def graphs_equal_eager(device: torch.device) -> Figures:
    """The same ids as eager: drawn at random, rotating, with 8-bit weights, and by an engine that was used before."""
    cases: dict[str, tuple[dict[str, Any], dict[str, Any], SamplingConfig]] = {
        "drawn": (RICH, {}, GREEDY.replace(temperature=0.9, top_k=20)),
        "repetition penalty": ({}, {}, GREEDY.replace(repetition_penalty=1.3)),
        "rotating": (
            {"position": "rotary"},
            {"rotating": True},
            GREEDY.replace(when_full="rotate", max_new_tokens=100),
        ),
        "8-bit weights": (RICH, {"weights": "int8"}, GREEDY),
    }
    with stand_in(device):
        for name, (changes, options, sampling) in cases.items():
            model = make_gpt(**changes).to(device)
            requests = [Request(prompt, sampling, seed=seed) for seed, prompt in enumerate(PROMPTS)]
            eager, graphs = (Engine(model, slots=4, mode=mode, **options) for mode in ("eager", "graphs"))  # type: ignore[arg-type]
            eager._decoder._together = eager._decoder._model  # type: ignore[union-attr]  # (a CPU has another for 8 bits)
            wanted = written(eager, *requests)
            for attempt in ("first", "second"):
                assert written(graphs, *requests) == wanted, f"{name}: other ids than eager the {attempt} time"
    return {"cases": len(cases)}


def several_threads(device: torch.device) -> Figures:
    """Engines of one model in several threads, that capture while others decode, and each writes what it should."""
    definition, model = Definition(), make_gpt().to(device)
    wrong: list[str | None] = []

    def write(mode: str) -> None:
        try:
            for slots in (1, 2, 4):
                engine = Engine(model, slots=slots, mode=mode)  # type: ignore[arg-type]
                found = written(engine, *(Request(prompt, GREEDY) for prompt in PROMPTS))
                wrong.extend(definition.differs(*pair) for pair in zip(PROMPTS, found, strict=True))
        except Exception as error:
            wrong.append(f"{mode}: {error!r}")

    with stand_in(device):
        threads = [threading.Thread(target=write, args=(mode,)) for mode in ("graphs", "graphs", "eager")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    errors = [error for error in wrong if error is not None]
    assert not errors, errors[0]
    return {"threads": len(threads)}


def modes_that_are_refused(device: torch.device) -> Figures:
    """`auto` takes graphs on a card; compiled is for CPUs, and says so, and the other way round."""
    model = make_gpt().to(device)
    is_cuda = device.type == "cuda"
    refused = "compiled" if is_cuda else "graphs"
    try:
        Engine(model, mode=refused)  # type: ignore[arg-type]
    except UserError as error:
        said = str(error)
    else:
        raise AssertionError(f"mode {refused} was not refused")
    assert not is_cuda or Engine(model).mode == "graphs", "auto takes no graphs"
    return {"said": said}


def searches_and_inspection(device: torch.device) -> Figures:
    """Beam search, contrastive search and all that `inspect` looks at, beside the CPU's."""
    results: list[Callable[[GPT, torch.Tensor], Any]] = [
        lambda model, prompt: [ids for ids, _ in beam_search(model, prompt, beams=3, max_new_tokens=20, block_size=24)],
        lambda model, prompt: contrastive_search(model, prompt, max_new_tokens=20, block_size=24),
    ]
    model, there = make_gpt(position="rotary"), make_gpt(position="rotary").to(device)
    for search in results:
        for prompt in PROMPTS[:4]:
            ids = torch.tensor(prompt)
            assert search(model, ids) == search(there, ids.to(device)), f"a search from {prompt} finds other ids"
    tokenizer = ByteTokenizer()
    models = [make_gpt(vocab_size=tokenizer.vocab_size).to(where) for where in ("cpu", device)]
    wanted, got = (look(model, tokenizer, tokenizer.encode("the cat sat"), "a model") for model in models)
    off = max(
        relative(got.attention, wanted.attention), relative(got.lens.top_probabilities, wanted.lens.top_probabilities)
    )
    assert off < 1e-3, f"what inspect sees is off by {off:.2g}"
    return {"inspect": off}


CHECKS: dict[str, Callable[[torch.device], Figures]] = {
    "greedy ids in every mode": every_mode,
    "graphs: rows come and go": graphs_come_and_go,
    "graphs write what eager does": graphs_equal_eager,
    "several threads": several_threads,
    "modes that are refused": modes_that_are_refused,
    "searches and inspection": searches_and_inspection,
}
