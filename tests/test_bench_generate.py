"""Measuring how text is written: all sides write the same, in turn, and what is counted is counted right."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glassgpt.bench import generation, limits, writers
from glassgpt.bench.generation import compare_generation
from glassgpt.bench.llama_cpp import LlamaCpp, gguf_name, write_gguf
from glassgpt.bench.training import THEIRS, gpt2_config
from glassgpt.bench.work import SHAPES, find_work
from glassgpt.bench.writers import Glassgpt, Transformers, Writer, Written, gpt2_weights
from glassgpt.bench.writing import OTHERS, find_writing
from glassgpt.generation.engine import Engine, Produced
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from tests.conftest import call

TINY = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 64, "vocab_size": 37}
PROMPTS = [[5, 17, 30, 2, 9, 11], [8, 8, 1, 36, 20, 3], [31, 4, 12, 7, 7, 25]]
NEW = 40


def needs_llama_cpp() -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is compared with where the extra bench is installed")
    pytest.importorskip("gguf", reason="llama.cpp is compared with where the extra bench is installed")


@pytest.fixture
def gpt2() -> GPT:
    """GPT-2's architecture with large random weights everywhere, so that the likeliest token is so by far."""
    model = GPT(ModelConfig(**TINY, activation="gelu_tanh", init_std=1.0)).eval()
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            torch.nn.init.normal_(weight, mean=float("norm" in name and name.endswith("weight")), std=0.3)
    with torch.no_grad():
        model.token_embedding.weight[0] = 0  # llama.cpp never writes its end of text: nor do the others, then
    return model


def likeliest(model: GPT, prompt: Sequence[int]) -> list[int]:
    """Without a cache, one step at a time."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(NEW):
            logits = model(torch.tensor([ids]))[0, -1]
            first, second = logits.topk(2).values
            assert first - second > 1e-2, "rounding could decide: take other weights"
            ids.append(int(logits.argmax()))
    return ids[len(prompt) :]


def writer(name: str, model: GPT) -> Writer:
    if name == "llama.cpp":
        needs_llama_cpp()
        return LlamaCpp(model, exact=True)
    if name == THEIRS:
        pytest.importorskip("transformers")
        return Transformers(model)
    return Glassgpt(model, mode="eager")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "TURN_SECONDS", 1e-9)
    monkeypatch.setattr(generation, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(limits, "BYTES_READ", {"cpu": 4096})


# --- all sides do the same work ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["glassgpt", *OTHERS])
def test_every_side_writes_what_the_uncached_model_finds_likeliest(name: str, gpt2: GPT) -> None:
    side = writer(name, gpt2)
    expected = [likeliest(gpt2, prompt) for prompt in PROMPTS]
    assert len({token for row in expected for token in row}) > 15, "these weights say too little"
    for prompt, ids in zip(PROMPTS, expected, strict=True):
        assert side.write([prompt], NEW).ids == [ids]
    assert side.write(PROMPTS, NEW).ids == expected
    side.close()


def test_llama_cpp_has_the_same_weights_in_8_bits(gpt2: GPT, tmp_path: Path) -> None:
    needs_llama_cpp()
    import gguf

    write_gguf(gpt2, tmp_path / "model.gguf", "int8")
    there = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert len(there) == len(gpt2.state_dict())
    for name, weight in gpt2.state_dict().items():
        found = there[gguf_name(name)]
        in_8_bits = weight.dim() == 2 and name != "position_embedding.weight"
        assert found.tensor_type.name == ("Q8_0" if in_8_bits else "F32")
        numbers = torch.from_numpy(gguf.quants.dequantize(found.data, found.tensor_type).copy())
        step = weight.abs().max() / 127
        assert (numbers - weight).abs().max() <= (0.51 * step if in_8_bits else 0)


def test_the_file_for_llama_cpp_goes_away(gpt2: GPT) -> None:
    needs_llama_cpp()
    side = LlamaCpp(gpt2)
    assert side._file.is_file()
    side.close()
    assert not side._file.parent.exists()


@pytest.mark.parametrize("name", SHAPES)
def test_transformers_has_the_same_tensors(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        ours = gpt2_weights(GPT(find_work(name, {}).model))
        theirs = transformers.GPT2LMHeadModel(gpt2_config(find_work(name, {}))).state_dict()
    shapes = {key: tensor.shape for key, tensor in theirs.items() if key != "lm_head.weight"}  # tied
    assert {key: tensor.shape for key, tensor in ours.items()} == shapes


# --- what is counted ---------------------------------------------------------------------------------------------


def test_bytes_of_a_token_are_those_of_all_weights_in_matrices_and_of_the_cache() -> None:
    writing = replace(find_writing("0.8M", {"model": TINY}), new_tokens=20)
    model = GPT(writing.model)
    weights = {name: weight for name, weight in model.named_parameters() if name != "position_embedding.weight"}
    matrices = sum(weight.numel() for weight in weights.values() if weight.dim() == 2)
    others = sum(weight.numel() for weight in weights.values() if weight.dim() == 1)
    cache = model.make_cache(1)
    model(torch.zeros(1, writing.short_prompt + 10, dtype=torch.int64), cache)
    numbers = sum(layer[..., : cache.length, :].numel() for part in (cache.keys, cache.values) for layer in part)
    assert writing.bytes_per_token(4, 4) == 4 * (matrices + others + numbers)
    assert writing.bytes_per_token(1, 2) == matrices + 4 * others + 2 * numbers
    untied = replace(writing, model=writing.model.replace(tie_weights=False))
    assert untied.bytes_per_token(4, 4) == writing.bytes_per_token(4, 4)  # a table in which one row is looked up


@pytest.mark.parametrize(("name", "tokens"), [("0.8M", (240, 255)), ("10.7M", (240, 255)), ("124M", (1008, 1023))])
def test_no_more_is_written_than_fits_the_context(name: str, tokens: tuple[int, int]) -> None:
    writing = find_writing(name, {}, new_tokens=5000, prompt_tokens=5000)
    assert (writing.new_tokens, writing.prompt_tokens) == tokens
    assert writing.short_prompt + writing.new_tokens <= writing.model.block_size
    usual = find_writing("124M", {}, weights="int8", batch=16)
    assert (usual.new_tokens, usual.prompt_tokens, usual.changes) == (128, 512, ())
    assert str(usual) == "124M: 12 layers, 12 heads, width 768, context 1024, vocabulary 50,304, int8"


class Scripted:
    """A side that takes its time by the clock, and notes what it was asked for."""

    how, weight_bytes, cache_bytes = "float32", 4.0, 4.0

    def __init__(self, name: str, log: list, seconds: float):
        self.name, self.log, self.seconds, self.closed = name, log, seconds, False

    def write(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Written:
        self.log.append((self.name, prompts))
        ids = [[1] * new_tokens for _ in prompts]
        return Written(ids, len(prompts[0]) * self.seconds / 10, (new_tokens - 1) * self.seconds)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], list]]:
    log: list = []
    made = []

    def make(name: str, *_more: object) -> Scripted:
        made.append(Scripted(name, log, {"glassgpt": 0.125, THEIRS: 0.25}[name]))
        return made[-1]

    monkeypatch.setattr(generation, "_make_writer", make)
    monkeypatch.setattr(generation, "measure_memory_read", lambda _: 1e6)
    monkeypatch.setattr(generation, "SETTLE_SECONDS", 0)
    yield log
    assert made
    assert all(side.closed for side in made)


def compare(**settings) -> generation.Comparison:
    writing = replace(find_writing("0.8M", {"model": TINY}, batch=3, prompt_tokens=50, new_tokens=9), **settings)
    return compare_generation(writing, [THEIRS], device=torch.device("cpu"), rounds=2)


def test_speeds_are_tokens_over_time_and_ratios_are_of_each_round(scripted: list) -> None:
    pytest.importorskip("transformers")
    found = compare()
    ours, theirs = found.sides
    assert (ours.decode.rounds, theirs.decode.rounds) == ((8.0, 8.0), (4.0, 4.0))
    assert (ours.batch.rounds, ours.batch_gain.rounds) == ((24.0, 24.0), (3.0, 3.0))
    assert ours.prefill.median == pytest.approx(50 / (50 * 0.0125))
    assert ours.first_token.median == pytest.approx(16 * 0.0125)
    assert ours.ratios == {}
    assert {kind: ratio.median for kind, ratio in theirs.ratios.items()} == pytest.approx(
        {"decode": 2, "batch": 2, "prefill": 2, "first_token": 2}
    )
    assert ours.bandwidth_share.median == 8 * found.writing.bytes_per_token(4, 4) / 1e6


def test_sides_take_turns_and_each_gets_the_same_prompts_and_none_twice(scripted: list) -> None:
    pytest.importorskip("transformers")
    compare()
    names = [name for name, _ in scripted]
    order = [name for name, before in zip(names, ["", *names], strict=False) if name != before]
    assert order == ["glassgpt", THEIRS] * 2 + ["glassgpt"]  # warming up, a round, and one the other way round
    seen = {name: [tuple(map(tuple, prompts)) for side, prompts in scripted if side == name] for name in set(names)}
    rows = [row for prompts in seen["glassgpt"] for row in prompts]
    assert {len(row) for row in rows} == {16, 50}
    assert len(set(rows)) == len(rows)
    warming_up = 1 + 2 * 3
    assert seen["glassgpt"][: warming_up + 1] == seen[THEIRS][: warming_up + 1]  # later, the faster side has more calls


# --- the command -------------------------------------------------------------------------------------------------


def fields(*more: str) -> list[str]:
    words = [f"--model.{field.replace('_', '-')}={value}" for field, value in TINY.items()]
    fixed = {"device": "cpu", "mode": "eager", "rounds": 2, "new-tokens": 5, "prompt-tokens": 20}
    return [*words, *(f"--{name}={value}" for name, value in fixed.items()), *more]


@pytest.mark.usefixtures("quick")
def test_bench_generate_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    needs_llama_cpp()
    assert call("bench", "generate", "--against", "transformers,llama.cpp", "--json", *fields("--batch", "2")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    (found,) = json.loads(out)["generation"]
    assert [side["name"] for side in found["sides"]] == ["glassgpt", "transformers", "llama.cpp"]
    read = found["memory_read_bytes_per_second"]["rounds"]
    ours = found["sides"][0]
    for side in found["sides"]:
        speeds = side["tokens_per_second"]["rounds"]
        assert len(speeds) == len(read) == 2
        shares = [speed * side["bytes_per_token"] / each for speed, each in zip(speeds, read, strict=True)]
        assert side["memory_bandwidth_share"]["rounds"] == shares
        for kind in ("tokens_per_second", "prefill_tokens_per_second", "batch_tokens_per_second"):
            assert side[kind]["lowest"] > 0
        assert side["first_call_seconds"] > side["first_token_seconds"]["lowest"] > 0
        if side is not ours:
            ratios = side["glassgpt_times_as_fast"]["decode"]["rounds"]
            assert ratios == [a / b for a, b in zip(ours["tokens_per_second"]["rounds"], speeds, strict=True)]
    assert ours["glassgpt_times_as_fast"] is None
    assert (found["batch"], found["new_tokens"], found["model"]["n_embd"]) == (2, 5, 32)
    assert [side["how"] for side in found["sides"]] == ["float32 eager", "float32", "float32"]
    assert {"glassgpt", "torch", "transformers", "xllamacpp"} == set(found["versions"])


@pytest.mark.usefixtures("quick")
def test_bench_generate_as_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert call("bench", "generate", *fields()) == 0
    out = capsys.readouterr().out
    assert "0.8M: 2 layers, 2 heads, width 32, context 64, vocabulary 37, float32" in out
    assert "model.n_embd=32" in out
    for absent in ("transformers", "llama", "lead", "at once"):
        assert absent not in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_table_of_three_sides_fits_a_terminal(
    scripted: list, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from glassgpt.cli.bench_generate import _print_comparison

    pytest.importorskip("transformers")
    monkeypatch.setenv("COLUMNS", "80")
    found = compare(batch=16)
    slow = replace(found.sides[1], name="llama.cpp")
    _print_comparison(replace(found, sides=[*found.sides, slow]))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("16 at once, tokens/s" in line for line in lines)
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--shape", "0.9M"], "no shape or recipe '0.9M': did you mean '0.8M'?"),
        (["--against", "nanogpt"], "--against nanogpt: transformers or llama.cpp, or both with a comma between"),
        (["--against", "transformers", "--model.position", "rotary"], "leave out model.position"),
        (["--batch", "0"], "--batch 0: at least 1"),
        (["--new-tokens", "1"], "--new-tokens 1: at least 2"),
        (["--prompt-tokens", "0"], "--prompt-tokens 0: at least 1"),
        (["--rounds", "0"], "--rounds 0: at least 1"),
        (["--threads", "0"], "--threads 0: at least 1"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--training.batch-size", "3"], "training.batch_size: has no say"),
        (["--model.block-size", "2"], "has no room"),
        (["--weights", "int4"], "int4"),
    ],
)
def test_what_a_user_can_get_wrong(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("bench", "generate", *words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err
    assert err.count("\n") == 1


def test_llama_cpp_compares_what_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    needs_llama_cpp()
    words = ["--against", "llama.cpp", "--weights", "int8", "--model.n-embd", "48"]
    assert call("bench", "generate", *words) == 2
    assert "q8_0 takes a width that 32 divides" in capsys.readouterr().err


@pytest.mark.parametrize(("package", "side"), [("transformers", "transformers"), ("xllamacpp", "llama.cpp")])
def test_without_a_package_the_extra_is_named(
    package: str, side: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if side == "llama.cpp":
        pytest.importorskip("gguf")
    monkeypatch.setitem(sys.modules, package, None)
    assert call("bench", "generate", "--against", side) == 2
    assert capsys.readouterr().err == f"glassgpt: {package} is not installed: pip install 'glassgpt[bench]'\n"


@pytest.mark.parametrize("rows", [1, 3])
def test_reading_prompts_and_writing_are_told_apart(rows: int, gpt2: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a prompt takes 5 seconds, a step 1, by a clock that nothing else moves."""
    now = 0.0

    class Slow(Engine):
        def step(self) -> list[Produced]:
            nonlocal now
            produced = super().step()
            now += 1 if now else 5
            return produced

    monkeypatch.setattr(writers, "Engine", Slow)
    monkeypatch.setattr(writers.time, "perf_counter", lambda: now)
    written = Glassgpt(gpt2, mode="eager").write(PROMPTS[:rows], 11)
    assert (written.first_seconds, written.rest_seconds, written.rest_tokens) == (5, 10, 10 * rows)
