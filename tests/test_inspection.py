"""What is seen inside a model, against the same worked out by hand; and the model, unchanged by being looked at."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glassgpt.errors import UserError
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.linear import Int8, with_linears
from glassgpt.inspection.attention import attention_maps, head_statistics, induction_scores
from glassgpt.inspection.capture import capture, capturing, names
from glassgpt.inspection.embeddings import neighbours, position_similarity, project
from glassgpt.inspection.labels import token_labels
from glassgpt.inspection.lens import logit_lens
from glassgpt.inspection.probabilities import predictions, token_probabilities
from glassgpt.inspection.sampling import SETTINGS, sampling_effects
from glassgpt.model import ModelConfig
from glassgpt.model.bigram import Bigram
from glassgpt.model.cache import KVCache, RowsCache
from glassgpt.model.gpt import GPT
from glassgpt.model.layers import Block
from glassgpt.tokenizers import ByteTokenizer, CharTokenizer, TokenizerConfig, make_tokenizer

TINY = ModelConfig(vocab_size=17, block_size=12, n_layer=2, n_head=4, n_embd=32, init_std=0.2)
COPYING = ModelConfig(
    vocab_size=16, block_size=24, n_layer=2, n_head=2, n_embd=64, n_inner=64, position="none", ngrams=2, init_std=0.1
)
VARIANTS: dict[str, dict[str, object]] = {
    "gpt2": {},
    "manual": {"attention": "manual"},
    "grouped heads": {"n_kv_head": 2},
    "qk norm": {"qk_norm": True},
    "rotary": {"position": "rotary"},
    "rotary interleaved": {"position": "rotary", "rope_pairing": "interleaved", "rope_base": 300.0},
    "all at once": {"position": "rotary", "n_kv_head": 1, "qk_norm": True, "norm": "rmsnorm", "ngrams": 3},
    "post-norm": {"norm_position": "post", "position": "sinusoidal"},
    "untied softcap": {"tie_weights": False, "logit_softcap": 5.0, "layer_scale": 0.5, "activation": "swiglu"},
}
IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
every_variant = pytest.mark.parametrize("name", VARIANTS)


def tiny(**changes: object) -> GPT:
    torch.manual_seed(0)
    model = GPT(TINY.replace(**changes)).eval()
    for parameter in model.parameters():  # no gain is 1 and no bias 0, so that each of them shows
        torch.nn.init.normal_(parameter, std=0.2) if parameter.dim() > 1 else torch.nn.init.normal_(parameter, 0.5, 0.3)
    return model


def prediction(model: GPT, ids: list[int]) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(torch.tensor([ids]))[0]  # (T, V)
    return logits


# --- capture -----------------------------------------------------------------------------------------------------


def rotated_by_hand(x: np.ndarray, position: int, config: ModelConfig) -> np.ndarray:
    """Each pair of components as a complex number, turned."""
    D = len(x)
    turn = np.exp(1j * position * config.rope_base ** (-np.arange(0, D, 2) / D))
    out = np.empty(D)
    if config.rope_pairing == "half":
        z = (x[: D // 2] + 1j * x[D // 2 :]) * turn
        out[: D // 2], out[D // 2 :] = z.real, z.imag
    else:
        z = (x[0::2] + 1j * x[1::2]) * turn
        out[0::2], out[1::2] = z.real, z.imag
    return out


def weights_by_hand(model: GPT, layer: int, x: np.ndarray) -> np.ndarray:
    """The attention weights (H, T, T) of a layer from what enters it (T, C), with loops and numpy alone, in float64."""
    config, attention = model.config, model.get_submodule(f"blocks.{layer}.attn")
    state = {name: value.double().numpy() for name, value in attention.state_dict().items()}
    T, D, H, G = len(x), config.head_width, config.n_head, config.kv_heads
    mixed = x @ state["qkv.weight"].T + state["qkv.bias"]
    q, k = mixed[:, : H * D].reshape(T, H, D), mixed[:, H * D : (H + G) * D].reshape(T, G, D)
    for heads, gain in ((q, "q_norm.weight"), (k, "k_norm.weight")):
        if config.qk_norm:
            heads -= heads.mean(axis=-1, keepdims=True) if config.norm == "layernorm" else 0
            heads /= np.sqrt((heads**2).mean(axis=-1, keepdims=True) + config.norm_eps)
            heads *= state[gain]
        if config.position == "rotary":
            for t in range(T):
                for h in range(heads.shape[1]):
                    heads[t, h] = rotated_by_hand(heads[t, h], t, config)
    weights = np.zeros((H, T, T))
    for h in range(H):
        for t in range(T):
            scores = [q[t, h] @ k[s, h // (H // G)] / math.sqrt(D) for s in range(t + 1)]
            e = np.exp(np.array(scores) - max(scores))
            weights[h, t, : t + 1] = e / e.sum()
    return weights


@every_variant
def test_weights_are_those_by_hand_with_and_without_the_cache(name: str) -> None:
    model = tiny(**VARIANTS[name])
    pre = model.config.norm_position == "pre"
    whole = capture(model, IDS, "*")
    cache = model.make_cache(1)
    pieces = [capture(model, piece, "*", cache) for piece in (IDS[:4], IDS[4:9], IDS[9:])]
    for layer in range(2):
        before = "embedding" if layer == 0 else f"blocks.{layer - 1}.residual"
        x = whole[f"blocks.{layer}.norm_1" if pre else before][0].double().numpy()
        by_hand = torch.from_numpy(weights_by_hand(model, layer, x)).float()
        torch.testing.assert_close(whole[f"blocks.{layer}.weights"][0], by_hand, rtol=0, atol=1e-6)
        read = 0
        for piece in pieces:
            got = piece[f"blocks.{layer}.weights"][0]  # (H, T, S)
            T, S = got.shape[1:]
            read += T
            assert read == S
            torch.testing.assert_close(got, by_hand[:, S - T : S, :S], rtol=0, atol=1e-6)


@every_variant
def test_everything_is_captured_in_order_and_adds_up(name: str) -> None:
    model = tiny(**VARIANTS[name])
    config = model.config
    found = capture(model, IDS, "*")
    assert list(found) == names(model)
    T, C, H, G, D = len(IDS), 32, 4, config.kv_heads, 8
    shapes = {"q": (1, H, T, D), "k": (1, G, T, D), "v": (1, G, T, D), "scores": (1, H, T, T), "weights": (1, H, T, T)}
    shapes |= {"activations": (1, T, config.inner_width), "logits": (1, T, 17)}
    for key, value in found.items():
        assert value.shape == shapes.get(key.split(".")[-1], (1, T, C)), key
        assert value.dtype is torch.float32
        assert not value.requires_grad
    assert torch.equal(found["logits"][0], prediction(model, IDS))
    for layer in range(2):
        of = {key.split(".")[-1]: value for key, value in found.items() if key.startswith(f"blocks.{layer}.")}
        block = model.blocks[layer]
        assert isinstance(block, Block)
        before = found["embedding"] if layer == 0 else found[f"blocks.{layer - 1}.residual"]
        with torch.no_grad():
            close(block.mlp.proj(of["activations"]), of["mlp"])
            mixed = (of["weights"] @ of["v"].repeat_interleave(H // G, dim=1)).transpose(1, 2).flatten(2)
            close(block.attn.proj(mixed), of["attention"])
            close(of["q"] @ of["k"].repeat_interleave(H // G, dim=1).mT / math.sqrt(D), of["scores"])
            after_attention = before + block.scale_1(of["attention"])
            if config.norm_position == "pre":
                close(block.norm_1(before), of["norm_1"])
                close(after_attention, of["middle"])
                close(block.norm_2(of["middle"]), of["norm_2"])
                close(of["middle"] + block.scale_2(of["mlp"]), of["residual"])
            else:
                close(block.norm_1(after_attention), of["norm_1"])
                close(of["norm_1"], of["middle"])
                close(block.norm_2(of["middle"] + block.scale_2(of["mlp"])), of["norm_2"])
                close(of["norm_2"], of["residual"])
            close(model.final_norm(found["blocks.1.residual"]), found["final_norm"])


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def what_hangs_on(model: GPT) -> list[object]:
    """All that a look inside could leave behind."""
    found: list[object] = [model.training]
    for module in model.modules():
        found += [dict(vars(module)), dict(module._forward_hooks), dict(module._forward_pre_hooks)]
    return found


def test_nothing_stays_and_nothing_is_done_when_off(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    before, logits = what_hangs_on(model), prediction(model, IDS)
    attention_maps(model, IDS), logit_lens(model, IDS), token_probabilities(model, IDS), induction_scores(model)
    with capturing(model, "*"), capturing(model, "blocks.1.*"):  # one inside the other
        assert what_hangs_on(model) != before
        assert torch.equal(prediction(model, IDS), logits)
    assert what_hangs_on(model) == before
    with pytest.raises(ZeroDivisionError), capturing(model, "*"):
        1 / 0  # noqa: B018

    def fail(*_: object, **__: object) -> Tensor:
        raise ZeroDivisionError

    monkeypatch.setattr(model.blocks[1].mlp, "activation", fail)
    within = what_hangs_on(model)
    with pytest.raises(ZeroDivisionError):
        capture(model, IDS, "*")
    assert what_hangs_on(model) == within


def test_only_what_is_wanted_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    before = what_hangs_on(model)
    with capturing(model, []):
        assert what_hangs_on(model) == before
    monkeypatch.setattr("glassgpt.inspection.capture.attention_weights", None)  # would fail if it were called
    assert list(capture(model, IDS, ["blocks.*.q", "logits"])) == ["blocks.0.q", "blocks.1.q", "logits"]
    with capturing(model, "blocks.0.mlp"):
        changed = [name for name, module in model.named_modules() if module._forward_hooks or module._forward_pre_hooks]
        assert changed == ["blocks.0.mlp"]


def test_captures_are_copies() -> None:
    model = tiny()
    cache = model.make_cache(1)
    found = capture(model, IDS[:4], "blocks.0.k", cache)["blocks.0.k"]
    kept = found.clone()
    cache.clear()
    capture(model, IDS[4:8], "blocks.0.k", cache)  # written over the same memory
    assert torch.equal(found, kept)


def test_a_model_in_training_is_read_without_dropout_and_goes_on_training() -> None:
    model = tiny(dropout=0.5)
    expected = prediction(model, IDS)
    model.train()
    assert torch.equal(capture(model, IDS, "logits")["logits"][0], expected)
    assert model.training
    assert model.blocks[0].training


def test_each_part_stays_in_its_mode() -> None:
    model = tiny(dropout=0.5).train()
    model.blocks[0].eval()  # frozen, say
    before = [module.training for module in model.modules()]
    with pytest.raises(UserError):
        capture(model, [99], "logits")
    capture(model, IDS, "logits")
    assert [module.training for module in model.modules()] == before


def test_a_model_in_half_precision_and_one_in_8_bits_can_be_looked_into() -> None:
    half = tiny().to(torch.bfloat16)
    assert attention_maps(half, IDS).dtype is torch.float32
    assert torch.equal(logit_lens(half, IDS).top_ids[-1, :, 0], prediction(half, IDS).float().argmax(dim=-1))
    short = with_linears(tiny(), Int8)
    assert list(capture(short, IDS, "*")) == names(short)
    assert torch.equal(logit_lens(short, IDS).top_ids[-1, :, 0], prediction(short, IDS).argmax(dim=-1))


@pytest.mark.parametrize(
    ("look", "message"),
    [
        (lambda: capture(tiny(), IDS, "blocks.0.weigths"), "did you mean 'blocks.*.weights'"),
        (lambda: capture(tiny(), IDS, ["logits", "blocks.7.q"]), "blocks 0 to 1.*did you mean 'blocks.*.q'"),
        (lambda: capture(tiny(), [], "logits"), "one token or more"),
        (lambda: capture(tiny(), IDS * 2, "logits"), "20 tokens do not fit a context with room for 12"),
        (lambda: capture(tiny(), IDS, "logits", KVCache(TINY, 1, length=4)), "room for 4"),
        (lambda: capture(tiny(), IDS, "logits", tiny().make_cache(2)), "the cache is for 2"),
        (lambda: capture(tiny(), [3, 17], "logits"), r"token id 17 .*0 to 16"),
        (lambda: capture(tiny(), [-1], "logits"), "token id -1"),
        (lambda: capture(tiny(), [0.5], "logits"), r"row of token ids.*float32 numbers of shape \(1,\)"),
        (lambda: capture(tiny(), torch.tensor([IDS]), "logits"), r"int64 numbers of shape \(1, 10\)"),
        (lambda: token_probabilities(tiny(), "text"), "row of token ids, not 'text'"),  # type: ignore[arg-type]
        (lambda: capture(Bigram(TINY), IDS, "logits"), "only a GPT.*Bigram"),
        (lambda: token_probabilities(tiny(), []), "one token or more"),
        (lambda: induction_scores(tiny(block_size=3)), "block size is 3"),
        (lambda: induction_scores(tiny(), length=1), "length: .*2 tokens or more, not 1"),
        (lambda: neighbours(torch.ones(3, 2), 3), "no row 3"),
        (lambda: project(torch.tensor([[1.0, 2.0], [0.0, math.inf]])), "vector 1 of 2 is not a number"),
        (lambda: logit_lens(tiny(), IDS, top=0), "top: at least 1, not 0"),
        (lambda: logit_lens(broken(), IDS), "not a number"),
        (lambda: token_probabilities(broken(), IDS), "not a number"),
        (lambda: sampling_effects(torch.tensor([0.0, math.nan])), "not a number"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(look: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        look()
    assert "\n" not in str(error.value)


def broken() -> GPT:
    model = tiny()
    torch.nn.init.constant_(model.token_embedding.weight, math.nan)
    return model


# --- attention ---------------------------------------------------------------------------------------------------


def test_head_statistics_against_loops() -> None:
    model = tiny(position="rotary")
    weights = attention_maps(model, IDS)
    assert weights.shape == (2, 4, 10, 10)
    statistics = head_statistics(weights, IDS)
    assert [(s.layer, s.head) for s in statistics] == [(layer, head) for layer in range(2) for head in range(4)]
    for s in statistics:
        w = weights[s.layer, s.head].tolist()
        queries = range(1, 10)
        entropy = [-sum(p * math.log(p) for p in w[t][: t + 1] if p) for t in queries]
        distance = [sum(w[t][i] * (t - i) for i in range(10)) for t in queries]
        assert s.entropy == pytest.approx(sum(entropy) / 9)
        assert s.distance == pytest.approx(sum(distance) / 9)
        assert s.previous == pytest.approx(sum(w[t][t - 1] for t in queries) / 9)
        assert s.first == pytest.approx(sum(w[t][0] for t in queries) / 9)
        # 3 1 4 1 5 9 2 6 5 3: the second 1, the second 5 and the second 3 look at what followed the first one
        assert s.induction == pytest.approx((w[3][2] + w[8][5] + w[9][1]) / 3)


def test_head_statistics_of_texts_with_little_in_them() -> None:
    one = head_statistics(attention_maps(tiny(), [3]), [3])[0]
    assert (one.entropy, one.distance, one.previous, one.first, one.induction) == (0.0, 0.0, 0.0, 1.0, None)
    same = torch.ones(1, 1, 3, 3).tril() / torch.tensor([1.0, 2.0, 3.0])[:, None]
    found = head_statistics(same, torch.tensor([5, 5, 5]))[0]
    assert found.entropy == pytest.approx((math.log(2) + math.log(3)) / 2)
    assert found.induction is None  # behind the one before, there is only itself
    assert json.dumps(vars(found))


def copying_model() -> GPT:
    """Two layers, trained on random tokens that are repeated once: what comes after the first repeated one is known.

    The repetition is now shorter, now longer, and there are no positions, so that counting back is of no use: only
    looking for where the token stood before is. That takes knowing which token stands before a place, which n-gram
    embeddings tell; a first layer would need thousands of steps to learn to.
    """
    torch.manual_seed(0)
    model = GPT(COPYING)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        length = int(torch.randint(4, 13, ()))
        ids = torch.rand(16, 16).argsort(dim=-1)[:, :length].repeat(1, 2)  # (B, 2·length)
        logits = model(ids[:, :-1])[:, length:]
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, length + 1 :].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_an_induction_head_is_found_in_a_model_that_learned_to_copy() -> None:
    model, untrained = copying_model(), GPT(COPYING).eval()
    for length in (5, 8, 12):
        assert induction_scores(untrained, length=length).max() < 0.25
        assert induction_scores(model, length=length).max() > 0.8
    found = induction_scores(model)  # as long a piece as half the block: 12
    assert torch.equal(found, induction_scores(model, length=12, seed=0))
    ids = torch.randperm(16, generator=torch.Generator().manual_seed(0))[:12].repeat(2)
    statistics = head_statistics(attention_maps(model, ids), ids)
    for s in statistics:
        w = capture(model, ids, f"blocks.{s.layer}.weights")[f"blocks.{s.layer}.weights"][0, s.head]
        by_hand = sum(w[12 + t, t + 1].item() for t in range(12)) / 12
        assert s.induction == pytest.approx(by_hand)
        assert found[s.layer, s.head].item() == pytest.approx(by_hand)


# --- the lens and the probabilities ------------------------------------------------------------------------------


@every_variant
def test_the_lens_ends_with_the_models_own_prediction(name: str) -> None:
    model = tiny(**VARIANTS[name])
    lens, logits = logit_lens(model, IDS, top=3), prediction(model, IDS)
    assert lens.layers == ["embedding", "block 0", "block 1"]
    assert lens.top_ids.shape == lens.top_probabilities.shape == (3, 10, 3)
    expected = logits.softmax(dim=-1).topk(3)
    assert torch.equal(lens.top_ids[-1], expected.indices)
    close(lens.top_probabilities[-1], expected.values)


def test_the_lens_by_hand() -> None:
    model = tiny(tie_weights=False, logit_softcap=5.0)
    lens, streams = logit_lens(model, torch.tensor(IDS)), capture(model, IDS, ["embedding", "blocks.*.residual"])
    assert model.lm_head is not None
    for row, x in enumerate(streams.values()):
        with torch.no_grad():
            scores = 5 * torch.tanh(model.lm_head(model.final_norm(x[0])) / 5)
        for t in range(10):
            p = scores[t].softmax(dim=0).tolist()
            assert lens.entropy[row, t] == pytest.approx(-sum(q * math.log(q) for q in p), rel=1e-4)
            assert lens.top_ids[row, t].tolist() == sorted(range(17), key=lambda i: -p[i])[:5]
            if t < 9:
                assert lens.next_probability[row, t] == pytest.approx(p[IDS[t + 1]], rel=1e-4)
                assert lens.next_rank[row, t] == 1 + sum(q > p[IDS[t + 1]] for q in p)
        assert lens.next_rank[row, 9] == lens.next_probability[row, 9] == 0
    assert logit_lens(model, [3], top=99).top_ids.shape == (3, 1, 17)


def test_token_probabilities_by_hand() -> None:
    model = tiny()
    found = token_probabilities(model, IDS, top=4)
    assert {tuple(value.shape) for value in vars(found).values()} == {(9,), (9, 4)}
    for t, scores in enumerate(prediction(model, IDS)[:9]):
        p = scores.softmax(dim=0).tolist()
        true = p[IDS[t + 1]]
        assert found.probability[t] == pytest.approx(true, rel=1e-4)
        assert found.surprise[t] == pytest.approx(-math.log2(true), rel=1e-4)
        assert found.rank[t] == 1 + sum(q > true for q in p)
        assert found.entropy[t] == pytest.approx(-sum(q * math.log2(q) for q in p), rel=1e-4)
        assert found.top_ids[t].tolist() == sorted(range(17), key=lambda i: -p[i])[:4]
        close(found.top_probabilities[t], torch.tensor(sorted(p, reverse=True)[:4]))
    assert token_probabilities(model, [3]).probability.shape == (0,)


@pytest.mark.parametrize("block", [1, 2, 5, 12])
@pytest.mark.parametrize("length", [1, 2, 5, 6, 7, 8, 13, 19, 20])
def test_long_texts_are_judged_after_half_a_block_at_least(block: int, length: int) -> None:
    model, text = tiny(block_size=block), (IDS * 2)[:length]
    found = token_probabilities(model, text).probability
    assert len(found) == length - 1
    step = max(1, block // 2)
    for t in range(1, length):
        begin = 0 if t <= block else -(-(t - block) // step) * step  # the first window that has room for t
        assert t - begin >= min(t, block // 2)
        expected = prediction(model, text[begin:t])[-1].softmax(dim=0)[text[t]]
        assert found[t - 1] == pytest.approx(expected.item(), rel=1e-4)


# --- embeddings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "width"), [(40, 6), (4, 6)])
def test_the_projection_is_that_of_the_eigenvectors(rows: int, width: int) -> None:
    table = torch.randn(rows, width, generator=torch.Generator().manual_seed(1)) * torch.arange(1, width + 1) + 3
    found = project(table, components=3)
    x = table.double().numpy() - table.double().numpy().mean(axis=0)
    variances, directions = np.linalg.eig(np.cov(x.T))
    order = np.argsort(-variances.real)
    np.testing.assert_allclose(found.explained, (variances.real / variances.real.sum())[order][:3], atol=1e-5)
    for i in range(3):
        direction = directions.real[:, order[i]]
        direction *= np.sign(direction[np.abs(direction).argmax()])  # of the two ways, the one that is documented
        np.testing.assert_allclose(found.coordinates[:, i], x @ direction, atol=1e-4)
    close(torch.pdist(project(table, width).coordinates), torch.pdist(table))  # in all directions: only turned


def test_projections_of_next_to_nothing() -> None:
    alike = project(torch.ones(5, 3))
    assert not alike.coordinates.any()
    assert not alike.explained.any()
    line = project(torch.tensor([[1.0], [2.0], [6.0]]))
    close(line.coordinates, torch.tensor([[-2.0, 0.0], [-1.0, 0.0], [3.0, 0.0]]))
    close(line.explained, torch.tensor([1.0, 0.0]))


def test_the_projection_of_very_large_and_very_small_vectors() -> None:
    table = torch.randn(20, 5, generator=torch.Generator().manual_seed(1))
    expected = project(table)
    for factor in (1e-25, 1e25):
        found = project(table * factor)
        close(found.coordinates / factor, expected.coordinates)
        close(found.explained, expected.explained)


def test_the_rank_of_tokens_that_are_alike() -> None:
    """One more than the number of likelier ones, so that nothing that is among the likeliest counts as wrong."""
    logits = torch.tensor([[0.0, 0.0, 3.0, -1.0], [0.0, 0.0, 3.0, -1.0], [1.0, 1.0, 1.0, 1.0]])
    assert predictions(logits, torch.tensor([1, 3, 2]), top=1).next_rank.tolist() == [2, 4, 1]


def test_neighbours() -> None:
    table = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 3.0], [-1.0, 0.0], [1.0, 1.0]])
    found = neighbours(table, 0, count=3)
    assert [i for i, _ in found] == [1, 4, 2]
    assert found[1][1] == pytest.approx(math.sqrt(0.5))
    assert len(neighbours(table, 0)) == 4


def test_position_similarity_of_each_kind() -> None:
    assert position_similarity(tiny(position="none")) is None
    learned = tiny()
    assert learned.position_embedding is not None
    w = learned.position_embedding.weight.tolist()
    found = position_similarity(learned)
    assert found is not None
    dot = sum(a * b for a, b in zip(w[2], w[7], strict=True))
    assert found[2, 7] == pytest.approx(dot / math.hypot(*w[2]) / math.hypot(*w[7]), abs=1e-5)
    for changes in ({"position": "rotary"}, {"position": "rotary", "rope_pairing": "interleaved"}):
        turned = position_similarity(tiny(**changes))
        assert turned is not None
        by_hand = sum(math.cos((7 - 2) * 10_000.0 ** (-i / 4)) for i in range(4)) / 4  # head width 8
        assert turned[2, 7] == pytest.approx(by_hand, abs=1e-5)
    waves = position_similarity(tiny(position="sinusoidal"))
    assert waves is not None
    by_hand = sum(math.cos((7 - 2) * 10_000.0 ** (-i / 16)) for i in range(16)) / 16  # width 32
    assert waves[2, 7] == pytest.approx(by_hand, abs=1e-5)
    for matrix in (found, waves):
        assert matrix.shape == (12, 12)
        close(matrix.diagonal(), torch.ones(12))


# --- sampling ----------------------------------------------------------------------------------------------------


def test_sampling_effects_by_hand() -> None:
    p = [0.5, 0.2, 0.15, 0.08, 0.04, 0.03]
    settings = {
        **SETTINGS,
        "top-k 2": SamplingConfig(temperature=1.0, top_k=2),
        "greedy": SamplingConfig(temperature=0),
    }
    effects = {e.name: e for e in sampling_effects(torch.tensor(p).log() + 7, settings)}
    assert list(effects) == [*SETTINGS, "top-k 2", "greedy"]
    powers = {"temperature 0.5": 2.0, "temperature 1.5": 1 / 1.5}
    kept = {"top-p 0.9": 4, "min-p 0.1": 4, "top-k 2": 2, "greedy": 1}  # 0.5 + 0.2 + 0.15 = 0.85 < 0.9; 0.08 > 0.05
    for name, effect in effects.items():
        share = [q ** powers.get(name, 1.0) if i < kept.get(name, 6) else 0.0 for i, q in enumerate(p)]
        expected = [q / sum(share) for q in share]
        close(effect.probabilities, torch.tensor(expected))
        assert effect.kept == kept.get(name, 6)
        assert effect.entropy == pytest.approx(-sum(q * math.log2(q) for q in expected if q), abs=1e-5)


def test_a_repetition_penalty_looks_at_the_text() -> None:
    logits, settings = torch.tensor([2.0, 1.9, -1.0]), {"": SamplingConfig(temperature=1.0, repetition_penalty=2.0)}
    assert sampling_effects(logits, settings)[0].probabilities.argmax() == 0
    close(sampling_effects(logits, settings, ids=[0, 2])[0].probabilities, torch.tensor([1.0, 1.9, -2.0]).softmax(0))
    greedy = {"": SamplingConfig(temperature=0, repetition_penalty=2.0)}
    assert sampling_effects(logits, greedy, ids=[0])[0].probabilities.tolist() == [0, 1, 0]


# --- labels ------------------------------------------------------------------------------------------------------


def test_labels_can_be_read() -> None:
    text = " a\n\té\u200b\u0301\xa0\r"
    tokenizer = CharTokenizer(text)
    labels = token_labels(tokenizer, tokenizer.encode(text))
    assert labels == ["␣", "a", "⏎", "⇥", "é", r"\u200b", "◌\u0301", r"\u00a0", r"\r"]
    assert token_labels(tokenizer, [tokenizer.vocab_size, tokenizer.vocab_size + 1])[1] == f"#{len(labels) + 1}"


def test_labels_of_bytes_and_byte_pairs() -> None:
    byte = ByteTokenizer()
    assert token_labels(byte, byte.encode("é ")) == [r"\xc3", r"\xa9", "␣"]
    assert token_labels(byte, [256]) == ["<|endoftext|>"]
    pairs = make_tokenizer(TokenizerConfig.parse({"kind": "bpe", "vocab_size": 262}), [" the the the the 🎉"])
    assert token_labels(pairs, pairs.encode(" the")) == ["␣the"]
    assert token_labels(pairs, pairs.encode("🎊"))[-1] == r"\x8a"
    everything = token_labels(pairs, range(pairs.vocab_size))
    assert all(label and label.isprintable() and " " not in label for label in everything)
    assert len(set(everything)) == len(everything)


def test_to_look_at_oneself_is_no_induction() -> None:
    assert head_statistics(torch.eye(6)[None, None], torch.tensor([3] * 6))[0].induction is None
    weights = torch.zeros(1, 1, 5, 5)
    weights[0, 0, 4, 3] = 1.0  # the last 7 looks behind the 7 before it
    ids = torch.tensor([7, 8, 7, 2, 7])
    assert head_statistics(weights, ids)[0].induction == 0.5  # of the two sevens that have one before them


def test_weights_of_rows_of_different_lengths() -> None:
    """As generation decodes them: a mask hides what a row does not have, and its weights are those without a cache."""
    model = tiny(position="rotary")
    texts = [[3, 1, 4, 1, 5], [9, 2, 6]]
    whole = [capture(model, text, "blocks.1.weights")["blocks.1.weights"][0, :, -1] for text in texts]  # (H, T)
    store = model.make_cache(2)
    for row, text in enumerate(texts):
        capture(model, text[:-1], "logits", store.row(row))
    lengths = torch.tensor([len(text) - 1 for text in texts])
    cache = RowsCache(store.keys, store.values, lengths, lengths, torch.arange(5), store.last_ids)
    with torch.no_grad(), capturing(model, "blocks.1.weights") as found:
        model(torch.tensor([text[-1:] for text in texts]), cache)
    for row, expected in enumerate(whole):
        weights = found["blocks.1.weights"][row, :, 0]  # (H, 5)
        torch.testing.assert_close(weights[:, : len(texts[row])], expected, rtol=0, atol=1e-6)
        assert not weights[:, len(texts[row]) :].any()
