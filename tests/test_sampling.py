"""Filters against transformers' own, the fast sampler against the plain functions, draws against probabilities."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import glassgpt
from glassgpt.errors import UserError
from glassgpt.generation import filters
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.sampling import BLOCK, TokenSampler, log_probabilities, row_seed
from tests.conftest import call


def random_logits(rows: int = 6, size: int = 50) -> Tensor:
    logits = torch.randn(rows, size, generator=torch.Generator().manual_seed(5)) * 3
    logits[0] = 1.0  # all the same
    logits[1, 10:20] = logits[1, 9]  # ties
    logits[2, 5] = 100.0  # one certain
    logits[3, :40] = float("-inf")
    return logits


# --- the filters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 1, 2, 10, 49, 50, 51])
def test_top_k_as_in_transformers(k: int) -> None:
    from transformers.generation import logits_process as warpers

    logits = random_logits()
    expected = logits if k == 0 else warpers.TopKLogitsWarper(k)(None, logits)
    assert torch.equal(filters.keep_top_k(logits, k), expected)


@pytest.mark.parametrize("p", [0.0, 0.01, 0.3, 0.5, 0.9, 0.999, 1.0])
def test_top_p_as_in_transformers(p: float) -> None:
    from transformers.generation import logits_process as warpers

    logits = random_logits()[1:]  # which of equal tokens is cut is left open there
    expected = logits if p == 1 else warpers.TopPLogitsWarper(p)(None, logits)
    assert torch.equal(filters.keep_top_p(logits, p), expected)


@pytest.mark.parametrize("p", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_min_p_as_in_transformers(p: float) -> None:
    from transformers.generation import logits_process as warpers

    logits = random_logits()
    assert torch.equal(filters.keep_min_p(logits, p), warpers.MinPLogitsWarper(p)(None, logits))


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9, 0.999])
def test_typical_as_in_transformers(p: float) -> None:
    from transformers.generation import logits_process as warpers

    logits = random_logits()
    assert torch.equal(filters.keep_typical(logits, p), warpers.TypicalLogitsWarper(p)(None, logits))
    assert filters.keep_typical(logits, 1.0) is logits


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.3])
def test_repetition_penalty_as_in_transformers(penalty: float) -> None:
    from transformers.generation import logits_process as processors

    logits, ids = random_logits(), torch.randint(50, (6, 9))
    expected = processors.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits)
    torch.testing.assert_close(filters.penalise_repetition(logits, ids, penalty), expected)


@pytest.mark.parametrize("min_p", [0.0, 0.02])
def test_all_filters_together_as_in_transformers(min_p: float) -> None:
    """In the order in which transformers itself puts them for the same settings."""
    import transformers

    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0)
    )
    names = {"repetition_penalty": 1.2, "temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": min_p, "typical_p": 0.6}
    config = transformers.GenerationConfig(do_sample=True, **names)
    processors = model._get_logits_processor(config, input_ids_seq_length=9, device="cpu")
    logits, ids = random_logits()[[1, 2, 3, 4, 5]], torch.randint(50, (5, 9))
    expected = processors(ids, logits).softmax(-1)
    torch.testing.assert_close(filters.filter_logits(logits, ids, SamplingConfig(**names)).softmax(-1), expected)


def test_one_token_above_p_is_kept_alone() -> None:
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1]]))
    assert filters.keep_top_p(logits, 0.6).isfinite().tolist() == [[True, False, False]]
    assert filters.keep_top_p(logits, 0.8).isfinite().tolist() == [[True, True, False]]


def test_of_equal_tokens_top_p_keeps_the_first_and_top_k_all() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0, 2.0, 2.0]])
    assert filters.keep_top_p(logits, 0.4).isfinite().tolist() == [[False, True, True, False, False]]
    assert filters.keep_top_k(logits, 2).isfinite().tolist() == [[False, True, True, True, True]]


def test_typical_leaves_out_what_is_too_likely() -> None:
    """By hand: an entropy of 1.47 nats; the surprises are 0.51 (the likeliest), 2.12 and 4.2."""
    probabilities = torch.tensor([0.6] + [0.12] * 2 + [0.015] * 10 + [0.01])
    kept = filters.keep_typical(probabilities.log()[None], 0.2).isfinite()[0]
    assert kept.tolist() == [False, True, True] + [False] * 11


# --- the fast sampler against them -------------------------------------------------------------------------------


def by_definition(config: SamplingConfig, seed: int, logits: Tensor, ids: Tensor, draws: int = 1) -> list[int]:
    """What the plain functions draw, with the random numbers that a TokenSampler of this seed has."""
    generator = torch.Generator().manual_seed(row_seed(seed, 0))
    kept = filters.filter_logits(logits[None], ids[None], config)
    return filters.draw(kept.expand(draws, -1), [generator] * draws).tolist()


SETTINGS = {
    "all": {},
    "cold": {"temperature": 0.1},
    "hot": {"temperature": 3.0},
    "top-k 1": {"top_k": 1},
    "top-k 40": {"top_k": 40},
    "top-k 600": {"top_k": 600},
    "top-k of more than there are": {"top_k": 100_000},
    "top-p 0": {"top_p": 0.0},
    "top-p 0.5": {"top_p": 0.5},
    "top-p 0.999": {"top_p": 0.999},
    "min-p 0.1": {"min_p": 0.1},
    "min-p 1": {"min_p": 1.0},
    "typical 0": {"typical_p": 0.0},
    "typical 0.3": {"typical_p": 0.3},
    "typical 0.95": {"typical_p": 0.95},
    "penalty": {"repetition_penalty": 1.5},
    "everything": {"top_k": 50, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.8, "repetition_penalty": 0.7},
    "without top-k": {"top_p": 0.9, "min_p": 0.01, "typical_p": 0.8},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", ["wide", "peaked", "ties", "few possible", "all the same"])
def test_the_sampler_takes_the_token_of_the_plain_functions_in_a_large_vocabulary(name: str, kind: str) -> None:
    g = torch.Generator().manual_seed(len(kind))
    logits = torch.randn(50_257, generator=g) * (6 if kind == "peaked" else 2)
    if kind == "ties":
        logits = logits.round()
    if kind == "few possible":
        logits[torch.rand(50_257, generator=g) > 0.001] = -math.inf
    if kind == "all the same":
        logits[:] = 0.25
    ids, config = torch.randint(50_257, (300,), generator=g), SamplingConfig(**{"temperature": 1.0, **SETTINGS[name]})
    before, sampler = logits.clone(), TokenSampler(config, 3)
    chosen = [sampler.choose(logits, ids) for _ in range(20)]
    assert chosen == by_definition(config, 3, logits, ids, 20)
    assert torch.equal(logits, before)


possible = st.one_of(st.integers(-6, 6).map(float), st.floats(-30, 30, width=32))
shares = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1))


@settings(max_examples=300)
@given(
    few=st.lists(st.one_of(possible, st.just(-math.inf)), min_size=1, max_size=30).filter(lambda x: max(x) > -math.inf),
    times=st.sampled_from([1, 1, 1, BLOCK // 5, BLOCK, 5 * BLOCK + 1]),
    temperature=st.floats(0.01, 4),
    top_k=st.one_of(st.none(), st.integers(0, 40)),
    top_p=shares,
    min_p=shares,
    typical_p=shares,
    penalty=st.sampled_from([1.0, 0.5, 1.3]),
    seed=st.integers(0, 2**31),
)
def test_the_sampler_takes_the_token_of_the_plain_functions(
    few: list[float],
    times: int,
    temperature: float,
    top_k: int | None,
    top_p: float,
    min_p: float,
    typical_p: float,
    penalty: float,
    seed: int,
) -> None:
    config = SamplingConfig(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p, repetition_penalty=penalty
    )
    logits = torch.tensor(few * times)
    ids = torch.tensor([0, len(logits) - 1, len(logits) // 2])
    sampler = TokenSampler(config, seed)
    assert [sampler.choose(logits, ids) for _ in range(3)] == by_definition(config, seed, logits, ids, 3)


@pytest.mark.parametrize("temperature", [0.0, 1e-320, 1e-46, 1e-40, 1e-7, 1e-5])
def test_a_tiny_temperature_is_greedy(temperature: float) -> None:
    logits, config = random_logits()[4:], SamplingConfig(temperature=temperature)
    assert [TokenSampler(config, 0).choose(row) for row in logits] == logits.argmax(-1).tolist()


def test_what_a_sampler_looks_at() -> None:
    greedy, penalty = SamplingConfig(temperature=0), SamplingConfig(temperature=0, repetition_penalty=1.5)
    assert (TokenSampler(greedy, 0).is_greedy, TokenSampler(greedy, 0).needs_ids) == (True, False)
    assert (TokenSampler(penalty, 0).is_greedy, TokenSampler(penalty, 0).needs_ids) == (False, True)
    assert not TokenSampler(SamplingConfig(), 0).is_greedy
    assert TokenSampler(penalty, 0).choose(torch.tensor([3.0, 2.5, 0.0]), torch.tensor([0])) == 1


def test_a_sampler_takes_one_random_number_a_token_whatever_it_is_asked() -> None:
    logits, ids = random_logits()[4], torch.zeros(1, dtype=torch.int64)
    for name in ("all", "everything", "top-p 0"):
        sampler = TokenSampler(SamplingConfig(**SETTINGS[name]), 9)
        generator = torch.Generator().manual_seed(row_seed(9, 0))
        for _ in range(5):
            sampler.choose(logits, ids)
            torch.rand((), generator=generator, dtype=torch.float64)
        assert torch.equal(sampler._generator.get_state(), generator.get_state())


def test_samplers_side_by_side_know_nothing_of_each_other() -> None:
    logits, config = torch.zeros(1000), SamplingConfig(temperature=1.0)
    alone = [TokenSampler(config, 1), TokenSampler(config, 2)]
    expected = [[sampler.choose(logits) for _ in range(10)] for sampler in alone]
    first, second = TokenSampler(config, 1), TokenSampler(config, 2)
    together = [(first.choose(logits), second.choose(logits)) for _ in range(10)]
    assert [list(row) for row in zip(*together, strict=True)] == expected
    assert expected[0] != expected[1]
    assert len({row_seed(seed, row) for seed in range(20) for row in range(20)}) == 400


# --- draws -------------------------------------------------------------------------------------------------------

LIKELY = torch.tensor([0.4, 0.3, 0.0, 0.2, 0.06, 0.02, 0.02])


def assert_follow(drawn: Tensor, probabilities: Tensor) -> None:
    """Pearson's chi-square at the 0.1 % level; random numbers come from a fixed seed, so it always has one outcome."""
    counts, possible = drawn.bincount(minlength=len(probabilities)).double(), probabilities > 0
    assert not counts[~possible].any()
    expected = probabilities.double()[possible] * len(drawn)
    distance = ((counts[possible] - expected) ** 2 / expected).sum()
    freedom = torch.tensor(float(possible.sum()) - 1)
    assert torch.special.gammaincc(freedom / 2, distance / 2) > 0.001


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, LIKELY),
        ({"temperature": 0.5}, LIKELY**2 / (LIKELY**2).sum()),
        ({"temperature": 2.0}, LIKELY**0.5 / (LIKELY**0.5).sum()),
        ({"top_k": 3}, torch.tensor([4, 3, 0, 2, 0, 0, 0]) / 9),
        ({"top_k": 6}, LIKELY),  # ties are kept
        ({"top_p": 0.65}, torch.tensor([4, 3, 0, 0, 0, 0, 0]) / 7),
        ({"min_p": 0.4}, torch.tensor([4, 3, 0, 2, 0, 0, 0]) / 9),
        ({"typical_p": 0.45}, torch.tensor([0, 3, 0, 2, 0, 0, 0]) / 5),  # entropy 1.37, surprises 0.92, 1.20, 1.61, …
    ],
)
def test_100_000_draws_follow_the_probabilities(changes: dict[str, float], expected: Tensor) -> None:
    config, logits = SamplingConfig(**{"temperature": 1.0, **changes}), LIKELY.log()
    drawn = by_definition(config, 3, logits, torch.tensor([0]), 100_000)
    sampler = TokenSampler(config, 3)
    assert [sampler.choose(logits) for _ in range(500)] == drawn[:500]
    assert_follow(torch.tensor(drawn), expected)


def test_draws_from_a_large_vocabulary_follow_the_probabilities() -> None:
    """20,000 draws of the sampler itself, in ten groups of tokens, some in the last and incomplete block."""
    logits = torch.randn(5 * BLOCK + 100, generator=torch.Generator().manual_seed(1))
    groups = torch.arange(len(logits)) * 10 // len(logits)
    expected = torch.zeros(10, dtype=torch.float64).index_add(0, groups, logits.double().softmax(-1))
    sampler = TokenSampler(SamplingConfig(temperature=1.0), 0)
    drawn = torch.tensor([sampler.choose(logits) for _ in range(20_000)])
    assert int(drawn.max()) >= 5 * BLOCK
    assert_follow(groups[drawn], expected)


@pytest.mark.parametrize("dart", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("size", [3, 3 * BLOCK, 3 * BLOCK + 7])
def test_a_draw_never_lands_on_an_impossible_token(dart: float, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor(dart, dtype=torch.float64))
    for only in {0, 1, size // 2, size - 1}:
        logits = torch.full((size,), -math.inf)
        logits[only] = 2.0
        assert TokenSampler(SamplingConfig(), 0).choose(logits) == only
        assert filters.draw(logits[None], [torch.Generator()]).tolist() == [only]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("changes", [{}, {"temperature": 0}, {"top_k": 2}, {"top_p": 0.5}])
def test_a_model_that_diverged_gives_no_token(wrong: float, changes: dict[str, float]) -> None:
    for size in (4, 9 * BLOCK):
        logits = torch.zeros(size)
        logits[2] = wrong
        for ask in (TokenSampler(SamplingConfig(**changes), 0).choose, lambda x: log_probabilities(x, 0)):
            with pytest.raises(UserError, match="not a number"):
                ask(logits)


# --- log-probabilities -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 50_257])
@pytest.mark.parametrize("top", [0, 1, 4, 20])
def test_log_probabilities_are_those_of_torch(size: int, top: int) -> None:
    logits = torch.randn(size, generator=torch.Generator().manual_seed(size)) * 5
    expected = logits.double().log_softmax(-1)
    got = log_probabilities(logits, size // 2, top)
    assert got.chosen == pytest.approx(float(expected[size // 2]), abs=1e-12)
    values, ids = expected.topk(min(top, size))
    assert [i for i, _ in got.top] == ids.tolist()
    assert [value for _, value in got.top] == pytest.approx(values.tolist(), abs=1e-12)


def test_log_probabilities_of_ties_and_of_what_cannot_be() -> None:
    logits = torch.tensor([0.0, -math.inf, 0.0, 0.0, -math.inf])
    third = pytest.approx(-math.log(3))
    assert log_probabilities(logits, 3, 2).top == ((0, third), (2, third))
    assert log_probabilities(logits, 3, 9).top == ((0, third), (2, third), (3, third))
    assert log_probabilities(logits, 1).chosen == -math.inf


def test_log_probabilities_of_large_logits_do_not_overflow() -> None:
    assert log_probabilities(torch.tensor([1e30, 1e30]), 0).chosen == pytest.approx(-math.log(2))


# --- from outside ------------------------------------------------------------------------------------------------


def test_typical_from_python_and_from_the_command_line(trained_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = glassgpt.load(trained_run, device="cpu").generate("the ", typical_p=0.2, max_new_tokens=30, seed=1)
    words = ("--prompt", "the ", "--max-new-tokens", 30, "--seed", 1, "--device", "cpu")
    assert call("generate", trained_run, *words, "--typical-p", 0.2) == 0
    assert capfd.readouterr().out == f"the {text}\n"
    assert call("generate", trained_run, *words, "--typical-p", 2) == 2
    assert "typical_p" in capfd.readouterr().err
