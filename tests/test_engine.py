"""The engine: every way of decoding gives what the plain model gives, whatever runs beside it."""

import itertools
import random
import shutil
import zipfile

import pytest
import torch
from torch import Tensor, nn

from glassgpt.errors import UserError
from glassgpt.generation.compiling import package_path
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.decoder import Decoder
from glassgpt.generation.engine import Engine, Produced, Request
from glassgpt.generation.linear import Int8, OneRow, Packed, one_query_attention, with_linears
from glassgpt.generation.text import stream_text
from glassgpt.model import ModelConfig, make_model
from glassgpt.model.attention import causal_mask, manual_attention
from glassgpt.model.gpt import GPT
from glassgpt.tokenizers import CharTokenizer
from tests.conftest import TEXT

TINY = ModelConfig(vocab_size=37, block_size=24, n_layer=2, n_head=4, n_embd=32)
RICH = {"ngrams": 3, "qk_norm": True, "n_kv_head": 2, "activation": "gelu_tanh", "tie_weights": False}
GREEDY = SamplingConfig(temperature=0, max_new_tokens=60)
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="compiling needs a C++ compiler (g++ on the PATH)")


def make_gpt(seed: int = 0, **changes) -> GPT:
    torch.manual_seed(seed)
    model = make_model(TINY.replace(**changes)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def by_hand(model: GPT, prompt: list[int], steps: int) -> list[int]:
    """The definition: the likeliest after the whole context, cropped to its last half when it is full."""
    context, written = list(prompt), []
    for _ in range(steps):
        if len(context) > model.config.block_size:
            context = context[-max(1, model.config.block_size // 2) :]
        with torch.no_grad():
            token = int(model(torch.tensor([context]))[0, -1].argmax())
        context.append(token)
        written.append(token)
    return written


def run(engine: Engine, *requests: Request) -> list[list[int]]:
    tickets = [engine.add(request) for request in requests]
    written: dict[int, list[Produced]] = {ticket: [] for ticket in tickets}
    while not engine.is_idle:
        for token in engine.step():
            written[token.ticket].append(token)
    assert all(tokens[-1].finish_reason for tokens in written.values())
    assert not any(token.finish_reason for tokens in written.values() for token in tokens[:-1])
    return [[token.id for token in written[ticket]] for ticket in tickets]


def prompts_of(lengths: tuple[int, ...]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(37, (length,), generator=generator).tolist() for length in lengths]


PROMPTS = prompts_of((3, 24, 1, 10, 7))


@pytest.mark.parametrize("changes", [{}, RICH], ids=["plain", "rich"])
@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize("position", ["learned", "rotary", "sinusoidal", "none"])
def test_rows_of_any_length_write_what_the_plain_model_writes(position: str, norm: str, changes: dict) -> None:
    model = make_gpt(position=position, norm=norm, **changes)
    expected = [by_hand(model, prompt, 60) for prompt in PROMPTS]
    for slots in (1, 3):
        engine = Engine(model, slots=slots, mode="eager")
        assert run(engine, *(Request(prompt, GREEDY) for prompt in PROMPTS)) == expected


def trained_gpt(**changes) -> GPT:
    """A model that has learned a little text by heart: sure of some tokens, less so of others, like real ones."""
    model = make_model(TINY.replace(**changes))
    text = torch.tensor([ord(letter) % 37 for letter in TEXT])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(60):
        windows = torch.stack([text[start : start + 25] for start in range(step, step + 96, 6)])
        loss = nn.functional.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1, "it has not learned"
    return model.eval()


@needs_compiler
@pytest.mark.parametrize(
    ("weights", "shape"),
    [
        ("float32", {"position": "learned", "norm": "layernorm"}),
        ("float32", {"position": "sinusoidal", "norm": "rmsnorm"}),
        ("float32", {"position": "rotary", "norm": "layernorm", "n_layer": 1}),
        ("float32", {"position": "rotary", "norm": "rmsnorm", "n_layer": 1, **RICH}),
        ("int8", {"position": "rotary", "norm": "rmsnorm", "n_layer": 1, **RICH}),
    ],
    ids=["learned-layernorm", "sinusoidal-rmsnorm", "rotary-layernorm", "rich", "rich-int8"],
)
@pytest.mark.slow
def test_compiled_it_writes_the_same(weights: str, shape: dict, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time from the disk, without a compiler, for other weights of the same shape: trained ones."""
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path))
    said: list[str] = []
    for make in (make_gpt, trained_gpt):
        model = make(**shape)
        plain = with_linears(model, Int8) if weights == "int8" else model
        if weights == "int8":  # exactly: the eager path rounds activations, too
            for module in plain.modules():
                if isinstance(module, Int8):
                    module.forward = lambda x, m=module: _exact(m, x)
        prompts = PROMPTS[:3] if weights == "float32" else PROMPTS[1:2]  # together, int8 rounds activations
        expected = [by_hand(plain, prompt, 60) for prompt in prompts]
        engine = Engine(model, slots=3, mode="compiled", weights=weights, tell=said.append)
        assert engine.mode == "compiled"
        del model, plain  # the engine keeps what it needs
        assert run(engine, *(Request(prompt, GREEDY) for prompt in prompts)) == expected  # one by one
        monkeypatch.setattr(engine._decoder, "apart", 1)
        assert run(engine, *(Request(prompt, GREEDY) for prompt in prompts)) == expected  # and together, the last alone
        monkeypatch.setattr("torch._inductor.aoti_compile_and_package", pytest.fail)
    assert sum("compiling" in line for line in said) == 1


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize("position", ["learned", "rotary", "sinusoidal"])
def test_a_trained_model_writes_the_same_in_rows_and_as_text(position: str, norm: str) -> None:
    model = trained_gpt(position=position, norm=norm)
    expected = [by_hand(model, prompt, 60) for prompt in PROMPTS]
    assert run(Engine(model, slots=3, mode="eager"), *(Request(prompt, GREEDY) for prompt in PROMPTS)) == expected
    tokenizer = CharTokenizer(chr(97 + number) for number in range(37))
    for prompt, ids in zip(PROMPTS, expected, strict=True):
        said = "".join(stream_text(model, tokenizer, tokenizer.decode(prompt), GREEDY, block_size=24))
        assert said == tokenizer.decode(ids)


def _exact(module: Int8, x: Tensor) -> Tensor:
    return nn.functional.linear(x, module.weight * module.scale[:, None], module.bias)


def test_one_row_written_out_as_sums_is_the_same_product_and_attention() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(24, 40), torch.randn(1, 1, 24)
    torch.testing.assert_close(OneRow(linear)(x), linear(x))
    q, k, v = torch.randn(1, 4, 1, 8), torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8)
    mask = (torch.arange(9) <= 5)[None, None, None]
    expected = manual_attention(q, k, v, mask=mask, causal=False)
    torch.testing.assert_close(one_query_attention(q, k, v, mask=mask), expected)


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_8_bit_weights_are_within_half_a_step_and_packed_ones_the_same(rows: int) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(48, 32)
    eight = Int8(linear)
    back = eight.weight * eight.scale[:, None]
    assert (back - linear.weight).abs().max() <= eight.scale.max() / 2 + 1e-7
    x = torch.randn(rows, 1, 48)
    expected = nn.functional.linear(x, back, linear.bias)
    tolerance = 0.05 if rows <= 32 else 1e-5  # few rows are multiplied in bfloat16
    torch.testing.assert_close(eight(x), expected, atol=tolerance, rtol=tolerance)
    if torch.backends.mkldnn.is_available():
        torch.testing.assert_close(Packed(linear)(x), linear(x), atol=1e-5, rtol=1e-5)


def test_large_models_are_packed_and_write_the_same() -> None:
    model = make_gpt(n_embd=256, n_layer=1)
    engine = Engine(model, slots=2, mode="eager")
    assert any(isinstance(module, Packed) for module in engine._decoder._model.modules())
    assert run(engine, *(Request(prompt, GREEDY) for prompt in PROMPTS)) == [by_hand(model, p, 60) for p in PROMPTS]


# --- in company --------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_text_whatever_runs_beside_it() -> None:
    model = make_gpt()
    settings = [
        SamplingConfig(temperature=1.0, max_new_tokens=30),
        SamplingConfig(temperature=0.7, top_k=5, max_new_tokens=12),
        SamplingConfig(temperature=1.3, top_p=0.8, repetition_penalty=1.2, max_new_tokens=40),
        SamplingConfig(temperature=0, max_new_tokens=20),
    ]
    requests = [Request(PROMPTS[i], config, seed=i) for i, config in enumerate(settings)]
    alone = [run(Engine(model, mode="eager"), request)[0] for request in requests]
    for order in itertools.permutations(range(4)):
        together = run(Engine(model, slots=3, mode="eager"), *(requests[i] for i in order))
        assert together == [alone[i] for i in order]


def test_requests_come_and_go_between_steps() -> None:
    model = make_gpt()
    engine = Engine(model, slots=2, mode="eager")
    first, second, third = (engine.add(Request(prompt, GREEDY)) for prompt in PROMPTS[:3])
    for _ in range(5):
        engine.step()
    engine.cancel(first)
    engine.cancel(99)  # never heard of
    written: list[int] = []
    while not engine.is_idle:
        produced = engine.step()
        assert first not in [token.ticket for token in produced]
        written += [token.id for token in produced if token.ticket == third]
    assert written == by_hand(model, PROMPTS[2], 60)
    waiting = engine.add(Request([1], GREEDY))
    engine.cancel(waiting)
    assert engine.is_idle
    assert second not in engine._running


def test_many_requests_and_cancellations_lose_and_mix_nothing() -> None:
    """The short form of benchmarks/soak_engine.py."""
    rng, model = random.Random(0), make_gpt(block_size=12)
    expected: dict[tuple[int, ...], list[int]] = {}
    engine, open_, done = Engine(model, slots=4, mode="eager"), {}, 0
    for _ in range(200):
        prompt = [rng.randrange(3) for _ in range(rng.randint(1, 5))]  # often beginning alike
        length = rng.randint(1, 25)
        open_[engine.add(Request(prompt, GREEDY.replace(max_new_tokens=length)))] = (prompt, length, [])
        if rng.random() < 0.2:
            ticket = rng.choice(list(open_))
            engine.cancel(ticket)
            del open_[ticket]
        for _ in range(rng.randint(0, 8)):
            done += _take(engine, open_, expected, model)
    while not engine.is_idle:
        done += _take(engine, open_, expected, model)
    assert not open_
    assert done > 100


def _take(engine: Engine, open_: dict, expected: dict, model: GPT) -> int:
    done = 0
    for token in engine.step():
        prompt, length, written = open_[token.ticket]
        written.append(token.id)
        if token.finish_reason:
            key = tuple(prompt)
            if len(expected.get(key, [])) < length:
                expected[key] = by_hand(model, prompt, 25)
            assert written == expected[key][:length]
            del open_[token.ticket]
            done += 1
    return done


def test_prompts_that_begin_alike_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_gpt(**RICH)
    engine = Engine(model, slots=3, mode="eager")
    read: list[int] = []
    old = Decoder.read
    monkeypatch.setattr(
        Decoder, "read", lambda self, row, ids, keep=0: read.append(len(ids) - keep) or old(self, row, ids, keep=keep)
    )
    prompt = PROMPTS[3]
    sampled = SamplingConfig(temperature=1.0, max_new_tokens=5)
    samples = [Request(prompt, sampled, seed=seed) for seed in range(4)]
    shared = run(engine, *samples, Request([*prompt[:6], 1, 2], GREEDY.replace(max_new_tokens=5)))
    assert read == [10, 1, 1, 1, 2]
    alone = [run(Engine(model, mode="eager"), request)[0] for request in samples]
    assert shared[:4] == alone
    assert shared[4] == by_hand(model, [*prompt[:6], 1, 2], 5)


def test_a_row_that_was_cropped_is_not_shared() -> None:
    model = make_gpt()
    engine = Engine(model, mode="eager")
    run(engine, Request(PROMPTS[1], GREEDY))
    assert run(engine, Request(PROMPTS[1], GREEDY)) == [by_hand(model, PROMPTS[1], 60)]


# --- the end of a text, and of the block -------------------------------------------------------------------------


def finish(engine: Engine, request: Request) -> tuple[int, str | None]:
    engine.add(request)
    tokens = []
    while not engine.is_idle:
        tokens += engine.step()
    return len(tokens), tokens[-1].finish_reason


def test_why_a_text_ends() -> None:
    model = make_gpt()
    written = by_hand(model, PROMPTS[0], 60)
    engine = Engine(model, mode="eager")
    assert finish(engine, Request(PROMPTS[0], GREEDY)) == (60, "length")
    end = written[9]
    assert finish(engine, Request(PROMPTS[0], GREEDY, end_ids=frozenset({end}))) == (written.index(end) + 1, "stop")
    stop = GREEDY.replace(when_full="stop")
    assert finish(engine, Request(PROMPTS[0], stop)) == (24 - 3 + 1, "length")  # 24 were read, and one more is known
    assert finish(engine, Request(PROMPTS[1], stop)) == (1, "length")


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_a_rotating_context_is_a_window_over_the_whole_text(pairing: str) -> None:
    """The oracle: a model with a block as long as the text, whose queries see the last 24 keys only."""
    model = make_gpt(position="rotary", rope_pairing=pairing, qk_norm=True)
    long = make_model(model.config.replace(block_size=200)).eval()
    long.load_state_dict(model.state_dict())

    def banded(q: Tensor, k: Tensor, v: Tensor, **_: object) -> Tensor:
        n = q.shape[2]
        mask = causal_mask(n, n) & ~causal_mask(n, n).tril(-24)
        return manual_attention(q, k, v, mask=mask)

    for block in long.blocks:
        block.attn.attend = banded
    expected = list(PROMPTS[3])
    for _ in range(120):  # through the block five times: past where rows are turned back
        with torch.no_grad():
            expected.append(int(long(torch.tensor([expected]))[0, -1].argmax()))
    rotates = GREEDY.replace(when_full="rotate", max_new_tokens=120)
    engine = Engine(model, slots=2, mode="eager", rotating=True)
    cropped = Request(PROMPTS[0], GREEDY)  # beside it, one that does not rotate
    assert run(engine, Request(PROMPTS[3], rotates), cropped) == [expected[10:], by_hand(model, PROMPTS[0], 60)]
    # What was written over is not there for a prompt that begins the same; nor where rows have been turned back.
    for length in (30, 120, 30):
        again = Request(PROMPTS[3], rotates.replace(max_new_tokens=length))
        assert run(engine, again) == [expected[10 : 10 + length]]
    with pytest.raises(UserError, match="needs rotary positions, and this model's are learned"):
        Engine(make_gpt(), rotating=True)


# --- choosing a way ----------------------------------------------------------------------------------------------


def test_modes_that_are_not_possible_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="mode graphs: only on a CUDA device"):
        Engine(make_gpt(), mode="graphs")
    monkeypatch.setattr("glassgpt.generation.decoder.can_compile", lambda _: False)
    with pytest.raises(UserError, match="mode compiled: takes a CPU"):
        Engine(make_gpt(), mode="compiled")


def test_auto_compiles_what_pays_and_goes_on_where_that_fails(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path))
    monkeypatch.setattr("glassgpt.generation.decoder.can_compile", lambda _: True)
    monkeypatch.setattr("glassgpt.generation.compiling._compile", _no_compiler)
    model, said = make_gpt(), []
    assert Engine(model, tell=said.append).mode == "eager"
    assert said == ["decoding as it is (compiled, it would be faster: --mode compiled)"]
    engine = Engine(model, tokens=1_000_000, tell=said.append)
    assert engine.mode == "eager"
    assert "could not be compiled (no compiler)" in said[2]
    assert not package_path(model).exists()
    with pytest.raises(UserError, match="could not be compiled"):
        Engine(model, mode="compiled")


def _no_compiler(*_: object) -> None:
    raise RuntimeError("no compiler\nand much more")


def test_logprobs_are_those_of_the_raw_logits() -> None:
    model = make_gpt()
    engine = Engine(model, mode="eager", vocab_size=30)
    engine.add(Request(PROMPTS[0], GREEDY.replace(temperature=0.5, top_k=3, max_new_tokens=4), logprobs=2))
    context = list(PROMPTS[0])
    while not engine.is_idle:
        (token,) = engine.step()
        with torch.no_grad():
            expected = model(torch.tensor([context]))[0, -1, :30].log_softmax(-1)
        assert token.logprobs is not None
        assert token.logprobs.chosen == pytest.approx(expected[token.id].item(), abs=1e-4)
        values, ids = expected.topk(2)
        assert [entry[0] for entry in token.logprobs.top] == ids.tolist()
        assert [entry[1] for entry in token.logprobs.top] == pytest.approx(values.tolist(), abs=1e-4)
        context.append(token.id)


def test_damaged_weights_are_said_to_be_so() -> None:
    model = make_gpt()
    model.final_norm.weight.data.fill_(float("nan"))
    for config in (GREEDY, SamplingConfig(temperature=1.0)):
        engine = Engine(model, mode="eager")
        engine.add(Request([1, 2], config))
        with pytest.raises(UserError, match="not a number"):
            for _ in range(3):
                engine.step()


def test_training_goes_on_undisturbed_beside_an_engine() -> None:
    model = make_gpt().train()
    engine = Engine(model, mode="eager")
    run(engine, Request([1], GREEDY))
    assert model.training
    model(torch.tensor([[1, 2]])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


class Table(nn.Module):
    """Logits that depend on the last id alone, some of them beyond the vocabulary, and none after id 5."""

    def forward(self, ids: Tensor) -> Tensor:
        torch.manual_seed(0)
        logits = torch.randn(10, 12)
        logits[:, 10:] = 100.0  # room that is not used
        logits[5] = float("nan")
        return logits[ids]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_request_that_fails_takes_no_other_with_it(temperature: float) -> None:
    config = SamplingConfig(temperature=temperature, max_new_tokens=20)
    table = Table()(torch.arange(10))[:, :10]
    good = next(start for start in range(5) if 5 not in greedy_walk(table, start))

    def texts_beside(*others: int) -> list[int]:
        engine = Engine(Table(), slots=3, block_size=64, vocab_size=10)
        tickets = [engine.add(Request([start], config, seed=3)) for start in (good, *others)]
        written: list[int] = []
        while not engine.is_idle:
            try:
                tokens = engine.step()
            except UserError:
                continue
            written += [token.id for token in tokens if token.ticket == tickets[0]]
        return written

    alone = texts_beside()
    if temperature == 0:
        assert alone == greedy_walk(table, good)[1:]
    assert len(alone) == 20 or 5 in alone  # drawn, it may come to it itself
    assert texts_beside(5, 5, 5) == texts_beside(5) == alone


def greedy_walk(table: Tensor, start: int) -> list[int]:
    walk = [start]
    for _ in range(20):
        walk.append(int(table[walk[-1]].argmax()) if walk[-1] != 5 else 5)
    return walk


def test_impossible_requests_are_refused_before_they_are_taken() -> None:
    engine = Engine(make_gpt(), mode="eager")
    for prompt, words in (([], "0 tokens"), ([1] * 25, "1 to 24"), ([1, 37], "0 to 36"), ([-1], "0 to 36")):
        with pytest.raises(ValueError, match=words):
            engine.add(Request(prompt, GREEDY))
    with pytest.raises(ValueError, match="rotating=True"):
        engine.add(Request([1], GREEDY.replace(when_full="rotate")))
    assert engine.is_idle


def test_8_bit_texts_do_not_depend_on_their_company_either() -> None:
    model = trained_gpt(position="rotary")
    config = SamplingConfig(temperature=1.0, max_new_tokens=40)
    requests = [Request(prompt, config, seed=seed) for seed, prompt in enumerate(PROMPTS)]
    engine = Engine(model, slots=1, mode="eager", weights="int8")
    alone = [run(engine, request)[0] for request in requests]
    assert run(Engine(model, slots=4, mode="eager", weights="int8"), *requests) == alone
    # A prompt of which a row holds all but the last token is read as it was the first time.
    assert run(engine, requests[1]) == [alone[1]] and run(engine, requests[1]) == [alone[1]]


def test_a_damaged_compiled_model_is_not_run(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path))
    monkeypatch.setattr("glassgpt.generation.decoder.can_compile", lambda _: True)
    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", pytest.fail)
    model = make_gpt()
    path = package_path(with_linears(model, lambda _: None))
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.so", b"code" * 100)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"codecode", b"codeCODE", 1))
    said: list[str] = []
    engine = Engine(model, tell=said.append)
    assert engine.mode == "eager"
    assert "model.so is damaged" in said[0] and str(path) in said[0]
    assert run(engine, Request(PROMPTS[0], GREEDY)) == [by_hand(model, PROMPTS[0], 60)]


def test_greedy_with_logprobs_chooses_the_same() -> None:
    model = make_gpt()
    request = Request(PROMPTS[0], GREEDY, logprobs=0)
    assert run(Engine(model, mode="eager"), request) == [by_hand(model, PROMPTS[0], 60)]


def test_a_step_that_is_interrupted_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_gpt()
    expected = [by_hand(model, prompt, 60) for prompt in PROMPTS[:3]]
    engine = Engine(model, slots=3, mode="eager")
    tickets = [engine.add(Request(prompt, GREEDY)) for prompt in PROMPTS[:3]]
    written: dict[int, list[int]] = {ticket: [] for ticket in tickets}
    step, again = engine._decoder.step, itertools.count(1)

    def interrupted(tokens: dict[int, int]) -> Tensor:
        logits = step(tokens) if next(again) % 3 else None
        if logits is None:
            raise KeyboardInterrupt
        return logits

    monkeypatch.setattr(engine._decoder, "step", interrupted)
    while not engine.is_idle:
        try:
            tokens = engine.step()
        except KeyboardInterrupt:
            continue
        for token in tokens:
            written[token.ticket].append(token.id)
    assert list(written.values()) == expected


def test_what_a_failed_step_had_produced_is_still_to_be_fetched() -> None:
    config = SamplingConfig(temperature=0, max_new_tokens=1)
    engine = Engine(Table(), slots=2, block_size=64, vocab_size=10)
    good, _, unwanted = (engine.add(Request([start], config)) for start in (0, 5, 1))
    with pytest.raises(UserError, match="not a number"):
        engine.step()  # the first is at its end, the second fails
    engine.cancel(unwanted)
    assert not engine.is_idle  # nothing runs or waits, and there is something to fetch
    assert [(token.ticket, token.finish_reason) for token in engine.step()] == [(good, "length")]
    assert engine.is_idle


def test_a_full_row_that_cannot_be_read_again_is_forgotten_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_gpt()
    expected = by_hand(model, PROMPTS[0], 60)
    engine = Engine(model, slots=2, mode="eager")
    good, bad = (engine.add(Request(PROMPTS[0], GREEDY)) for _ in range(2))
    read, failing = engine._decoder.read, [1]  # the row in which the reading fails

    def fail(row: int, tokens: list[int], *, keep: int = 0) -> Tensor:
        if row in failing and len(tokens) == engine.block_size // 2:  # no prompt, but the half of a full block
            failing.clear()
            raise RuntimeError("out of memory")
        return read(row, tokens, keep=keep)

    monkeypatch.setattr(engine._decoder, "read", fail)
    written: dict[int, list[int]] = {good: [], bad: []}
    while not engine.is_idle:
        try:
            tokens = engine.step()
        except RuntimeError:
            continue
        for token in tokens:
            written[token.ticket].append(token.id)
    assert not failing
    assert written[good] == expected
    assert 0 < len(written[bad]) < len(expected)
    assert written[bad] == expected[: len(written[bad])]


@pytest.mark.parametrize("width", [2, 8, 20, 24, 30, 48])
def test_int8_takes_models_of_any_width(width: int) -> None:
    """torch's kernel reads beyond matrices whose width is no multiple of 16."""
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=11, block_size=8, n_layer=1, n_head=1, n_embd=width, bias=False)
    engine = Engine(make_model(config), mode="eager", weights="int8")
    engine.add(Request([1, 2, 3], SamplingConfig(max_new_tokens=4, temperature=0)))
    produced = []
    while not engine.is_idle:
        produced += engine.step()
    assert len(produced) == 4
