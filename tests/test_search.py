"""Beam search against transformers' and against all there is; contrastive search against its definition."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.generation.beam import beam_search
from glassgpt.generation.contrastive import contrastive_search
from glassgpt.model import ModelConfig, make_model
from glassgpt.model.gpt import GPT

TINY = ModelConfig(vocab_size=17, block_size=24, n_layer=2, n_head=4, n_embd=32, activation="gelu_tanh")


def make_gpt(**changes: object) -> GPT:
    torch.manual_seed(0)
    return GPT(TINY.replace(**{"init_std": 0.3, **changes})).eval()


def random_prompt(length: int, seed: int = 0, size: int = 17) -> Tensor:
    return torch.randint(size, (length,), generator=torch.Generator().manual_seed(seed))


class Uncached(nn.Module):
    """The same model with no way to make a cache."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.inner = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.inner(ids)


def greedy_by_hand(model: nn.Module, ids: list[int], steps: int, block_size: int) -> list[int]:
    """Argmax over the whole context; it is cropped to its last half when it is full."""
    context, written = list(ids), []
    for _ in range(steps):
        if len(context) > block_size:
            context = context[-max(1, block_size // 2) :]
        with torch.no_grad():
            token = int(model(torch.tensor([context]))[0, -1].argmax())
        context.append(token)
        written.append(token)
    return written


# --- beam search -------------------------------------------------------------------------------------------------


def gpt2_twins() -> tuple[nn.Module, GPT]:
    """transformers' GPT-2 with random weights, and ours with the same ones."""
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=17, n_positions=24, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=None
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.15)
    renamed = {}
    for name, value in theirs.transformer.state_dict().items():
        ours = name.replace("wte", "token_embedding").replace("wpe", "position_embedding")
        ours = ours.replace("ln_f", "final_norm").replace("ln_", "norm_").replace("c_attn", "qkv")
        ours = ours.replace("c_proj", "proj").replace("c_fc", "fc")
        ours = ours.replace("h.", "blocks.", 1) if ours.startswith("h.") else ours
        renamed[ours] = value.T if ours.endswith(("qkv.weight", "proj.weight", "fc.weight")) else value
    model = GPT(TINY).eval()
    model.load_state_dict(renamed)
    return theirs, model


@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.0, -1.0])
@pytest.mark.parametrize("end_ids", [(), (3,), (3, 11)])
@pytest.mark.parametrize("beams", [2, 4])
def test_beam_search_as_in_transformers(beams: int, end_ids: tuple[int, ...], length_penalty: float) -> None:
    theirs, ours = gpt2_twins()
    for seed in range(4):
        prompt = random_prompt(5, seed)
        expected = theirs.generate(
            prompt[None],
            attention_mask=torch.ones(1, 5, dtype=torch.int64),
            num_beams=beams,
            num_return_sequences=beams,
            max_new_tokens=12,
            do_sample=False,
            early_stopping="never",  # as here: until nothing better can come; True and False stop before
            length_penalty=length_penalty,
            eos_token_id=list(end_ids) or None,
            pad_token_id=16,
            return_dict_in_generate=True,
            output_scores=True,
        )
        found = beam_search(
            ours,
            prompt,
            beams=beams,
            max_new_tokens=12,
            end_ids=end_ids,
            length_penalty=length_penalty,
            block_size=24,
        )
        for (ids, score), sequence, value in zip(
            found, expected.sequences[:, 5:], expected.sequences_scores, strict=True
        ):
            assert sequence.tolist()[: len(ids)] == ids
            assert score == pytest.approx(float(value), abs=1e-4)


def all_continuations(model: nn.Module, prompt: list[int], steps: int, end: int, size: int) -> dict[tuple, float]:
    """Every text of up to `steps` tokens that ends in `end` or is full, and the sum of its log-probabilities."""
    sums = {}
    for tokens in itertools.chain.from_iterable(itertools.product(range(size), repeat=n + 1) for n in range(steps)):
        if end in tokens[:-1] or (len(tokens) < steps and tokens[-1] != end):
            continue
        with torch.no_grad():
            logprobs = model(torch.tensor([[*prompt, *tokens]])).log_softmax(-1)[0, len(prompt) - 1 :]
        sums[tokens] = sum(float(logprobs[at, token]) for at, token in enumerate(tokens))
    return sums


@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 3.0, -2.0])
def test_wide_enough_a_beam_search_finds_the_best_of_all_texts(length_penalty: float) -> None:
    model = make_gpt(vocab_size=3, block_size=8)
    every = all_continuations(model, [1, 2], 4, end=0, size=3)
    assert sum(map(math.exp, every.values())) == pytest.approx(1, abs=1e-5)
    best = sorted(every, key=lambda text: every[text] / len(text) ** length_penalty, reverse=True)
    found = beam_search(
        model,
        torch.tensor([1, 2]),
        beams=len(every),
        max_new_tokens=4,
        end_ids=[0],
        length_penalty=length_penalty,
        block_size=8,
    )
    assert [tuple(ids) for ids, _ in found] == best
    expected = [every[text] / len(text) ** length_penalty for text in best]
    assert [score for _, score in found] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_score_is_that_of_the_text_under_the_plain_model(beams: int) -> None:
    model, prompt = make_gpt(position="rotary", norm="rmsnorm", ngrams=3), random_prompt(4)
    for ids, score in beam_search(model, prompt, beams=beams, max_new_tokens=10, block_size=24):
        with torch.no_grad():
            logprobs = model(torch.tensor([[*prompt.tolist(), *ids]])).log_softmax(-1)[0, 3:-1]
        assert score == pytest.approx(float(logprobs[range(10), ids].mean()), abs=1e-4)


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "rotary"])
@pytest.mark.parametrize("block_size", [1, 5, 8])
def test_one_beam_is_greedy_past_the_block_too(position: str, block_size: int) -> None:
    model, prompt = make_gpt(position=position, block_size=block_size), random_prompt(min(3, block_size))
    [(ids, _)] = beam_search(model, prompt, beams=1, max_new_tokens=20, block_size=block_size)
    assert ids == greedy_by_hand(model, prompt.tolist(), 20, block_size)


def test_with_and_without_a_cache_the_same_past_the_block_too() -> None:
    model, prompt = make_gpt(ngrams=4, block_size=8, init_std=0.1), random_prompt(3)
    for table in model.ngram_embedding.tables:
        nn.init.normal_(table.weight, std=0.5)  # so that each beam's last ids matter
    cached, uncached = (
        beam_search(m, prompt, beams=8, max_new_tokens=20, end_ids=[2], block_size=8) for m in (model, Uncached(model))
    )
    assert [ids for ids, _ in cached] == [ids for ids, _ in uncached]
    assert [score for _, score in cached] == pytest.approx([score for _, score in uncached], abs=1e-4)


def bigram(*rows: list[float]) -> nn.Module:
    model = make_model(ModelConfig(kind="bigram", vocab_size=len(rows), block_size=4))
    model.load_state_dict({"table.weight": torch.tensor(rows).log()})
    return model


def test_a_bigram_can_be_searched() -> None:
    model = bigram([0.1, 0.5, 0.4], [0.4, 0.3, 0.3], [0.0, 0.05, 0.95])
    found = beam_search(model, torch.tensor([0]), beams=2, max_new_tokens=2, length_penalty=0.0, block_size=4)
    assert [ids for ids, _ in found] == [[2, 2], [1, 0]]  # greedy would begin with 1
    assert [math.exp(score) for _, score in found] == pytest.approx([0.4 * 0.95, 0.5 * 0.4])


def test_a_search_goes_on_while_a_longer_text_may_come_before_those_found() -> None:
    model = bigram([0.0, 0.1, 0.9], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0])
    [(ids, score)] = beam_search(model, torch.tensor([0]), beams=1, max_new_tokens=50, end_ids=[2], block_size=4)
    assert ids == [1] * 50  # for its length; the text that ended at once is more likely by far
    assert score == pytest.approx(math.log(0.1) / 50)


def test_a_search_goes_on_while_a_likelier_text_may_come_before_those_found() -> None:
    end = [0.0, 0.0, 0.0, 1.0]
    model = bigram([0.0, 0.6, 0.0, 0.4], [0.0, 0.0, 0.55, 0.45], end, end)
    found = beam_search(
        model, torch.tensor([0]), beams=2, max_new_tokens=50, end_ids=[3], length_penalty=-0.1, block_size=4
    )
    assert [ids for ids, _ in found] == [[3], [1, 2, 3]]
    assert [score for _, score in found] == pytest.approx([math.log(0.4), math.log(0.6 * 0.55) * 3**0.1])


def test_impossible_texts_are_not_found() -> None:
    model = bigram(*[[0.0, 1.0, 0.0]] * 3)
    found = beam_search(model, torch.tensor([0]), beams=5, max_new_tokens=3, block_size=4)
    assert found == [([1, 1, 1], 0.0)]


# --- contrastive search ------------------------------------------------------------------------------------------


def contrastive_by_hand(
    model: GPT, ids: list[int], candidates: int, penalty: float, steps: int, block_size: int
) -> list[int]:
    """The definition, each candidate by a whole look at its text."""
    context, written = list(ids), []

    def made_of(tokens: list[int]) -> tuple[Tensor, Tensor]:
        outputs: list[Tensor] = []
        hook = model.final_norm.register_forward_hook(lambda *args: outputs.append(args[-1]))
        with torch.no_grad():
            logits = model(torch.tensor([tokens]))[0, -1]
        hook.remove()
        return logits, outputs[0][0]

    for _ in range(steps):
        logits, _ = made_of(context)
        scores = {}
        for token in logits.topk(candidates).indices.tolist():
            seen = [*context, token]
            if len(seen) > block_size:
                seen = seen[-max(1, block_size // 2) :]
            made = made_of(seen)[1]
            alike = max((float(F.cosine_similarity(made[-1], one, dim=0)) for one in made[:-1]), default=0.0)
            scores[token] = (1 - penalty) * float(logits.softmax(-1)[token]) - penalty * alike
        written.append(max(scores, key=scores.__getitem__))
        context.append(written[-1])
        if len(context) > block_size:
            context = context[-max(1, block_size // 2) :]
    return written


@pytest.mark.parametrize("changes", [{}, {"position": "rotary", "norm": "rmsnorm"}, {"norm_position": "post"}])
@pytest.mark.parametrize(("candidates", "penalty"), [(1, 0.6), (4, 0.6), (17, 0.3), (3, 1.0)])
@pytest.mark.parametrize("block_size", [24, 8, 1])
def test_contrastive_search_is_what_it_is_defined_as(
    changes: dict[str, str], candidates: int, penalty: float, block_size: int
) -> None:
    model, prompt = make_gpt(block_size=block_size, **changes), random_prompt(min(4, block_size))
    found = contrastive_search(
        model, prompt, candidates=candidates, penalty=penalty, max_new_tokens=18, block_size=block_size
    )
    assert found == contrastive_by_hand(model, prompt.tolist(), candidates, penalty, 18, block_size)


def test_contrastive_search_without_a_penalty_is_greedy_and_with_one_it_is_not() -> None:
    model, prompt = make_gpt(), random_prompt(4)
    greedy = greedy_by_hand(model, prompt.tolist(), 20, 24)
    assert contrastive_search(model, prompt, penalty=0.0, max_new_tokens=20, block_size=24) == greedy
    assert contrastive_search(model, prompt, max_new_tokens=20, block_size=24) != greedy
    assert not model.final_norm._forward_hooks


def test_contrastive_search_ends() -> None:
    model, prompt = make_gpt(), random_prompt(4)
    whole = contrastive_search(model, prompt, max_new_tokens=20, block_size=24)
    end = whole[7]
    stopped = contrastive_search(model, prompt, max_new_tokens=20, end_ids={end}, block_size=24)
    assert stopped == whole[: whole.index(end) + 1]
    assert contrastive_search(model, prompt, candidates=100, max_new_tokens=3, block_size=24)  # more than there are
