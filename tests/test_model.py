"""The model against by-hand arithmetic, against transformers, and against itself cut into pieces."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from glassgpt.model import ModelConfig, make_model
from glassgpt.model.attention import SHORT, attention_weights, causal_mask, fused_attention, manual_attention
from glassgpt.model.bigram import Bigram
from glassgpt.model.cache import KVCache
from glassgpt.model.gpt import GPT
from glassgpt.model.layers import gelu_tanh
from glassgpt.model.positions import Rotation, rotary_table, sinusoidal_table
from glassgpt.model.sizing import GPT2_FAMILY, sizes

TINY = ModelConfig(vocab_size=17, block_size=12, n_layer=2, n_head=4, n_embd=32)

VARIANTS = {
    "gpt2": {},
    "no bias": {"bias": False},
    "qkv bias only off": {"qkv_bias": False},
    "sinusoidal": {"position": "sinusoidal"},
    "rotary half": {"position": "rotary"},
    "rotary interleaved": {"position": "rotary", "rope_pairing": "interleaved", "rope_base": 500.0},
    "no positions": {"position": "none"},
    "grouped heads": {"n_kv_head": 2, "position": "rotary"},
    "one kv head": {"n_kv_head": 1},
    "qk norm": {"qk_norm": True, "position": "rotary"},
    "rmsnorm swiglu": {"norm": "rmsnorm", "activation": "swiglu", "bias": False},
    "swiglu bias": {"activation": "swiglu"},
    "relu": {"activation": "relu", "n_inner": 20},
    "relu2": {"activation": "relu2"},
    "gelu tanh": {"activation": "gelu_tanh"},
    "post-norm": {"norm_position": "post"},
    "layer scale": {"layer_scale": 0.5},
    "untied softcap": {"tie_weights": False, "logit_softcap": 5.0},
    "manual": {"attention": "manual"},
}


def variant(name: str) -> GPT:
    torch.manual_seed(0)
    model = GPT(TINY.replace(**VARIANTS[name], init_std=0.2)).eval()  # large weights, so that differences show
    return model


def random_ids(*shape: int) -> Tensor:
    return torch.randint(17, shape, generator=torch.Generator().manual_seed(1))


# --- attention ---------------------------------------------------------------------------------------------------


def qkv(heads: int, kv_heads: int, queries: int, keys: int, width: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(queries * 100 + keys)
    return (
        torch.randn(2, heads, queries, width, generator=g),
        torch.randn(2, kv_heads, keys, width, generator=g),
        torch.randn(2, kv_heads, keys, width, generator=g),
    )


MASKS = ["none", "rows", "batch", "a row that sees nothing"]


def make_mask(kind: str, queries: int, keys: int) -> Tensor | None:
    if kind == "none":
        return None
    mask = torch.rand(queries, keys, generator=torch.Generator().manual_seed(3)) > 0.4
    mask[:, 0] = True
    if kind == "batch":
        mask = torch.stack((mask, torch.ones_like(mask)))[:, None]  # (B, 1, T, S)
    if kind == "a row that sees nothing":
        mask[0] = False
    return mask


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("queries", "keys"), [(6, 6), (1, 6), (3, 6), (1, 1), (5, 6)])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_manual_equals_fused(mask: str, causal: bool, queries: int, keys: int, kv_heads: int) -> None:
    q, k, v = qkv(4, kv_heads, queries, keys)
    allowed = make_mask(mask, queries, keys)
    by_hand = manual_attention(q, k, v, mask=allowed, causal=causal)
    fused = fused_attention(q, k, v, mask=allowed, causal=causal)
    assert by_hand.shape == (2, 4, queries, 8)
    torch.testing.assert_close(by_hand, fused, atol=1e-6, rtol=0)


@pytest.mark.parametrize("mask", MASKS)
def test_gradients_of_manual_and_fused_are_equal_and_finite(mask: str) -> None:
    gradients = []
    for attend in (manual_attention, fused_attention):
        q, k, v = (t.requires_grad_() for t in qkv(4, 2, 3, 6))
        attend(q, k, v, mask=make_mask(mask, 3, 6)).square().sum().backward()
        gradients.append((q.grad, k.grad, v.grad))
    for by_hand, fused in zip(*gradients, strict=True):
        assert by_hand.isfinite().all()
        torch.testing.assert_close(by_hand, fused, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attend", [manual_attention, fused_attention])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("mask", MASKS)
def test_attention_against_loops(attend, causal: bool, mask: str) -> None:
    """Every number by hand, from the definition, for three queries that follow two cached keys."""
    q, k, v = qkv(4, 2, 3, 5)
    allowed = make_mask(mask, 3, 5)
    may_look = torch.ones(2, 1, 3, 5, dtype=torch.bool) if allowed is None else allowed.expand(2, 1, 3, 5)
    expected = torch.zeros(2, 4, 3, 8)
    for b, h, t in itertools.product(range(2), range(4), range(3)):
        g, last = h // 2, 5 - 3 + t if causal else 4
        seen = [s for s in range(last + 1) if may_look[b, 0, t, s]]
        scores = [math.exp(float(q[b, h, t] @ k[b, g, s]) / math.sqrt(8)) for s in seen]
        for s, score in zip(seen, scores, strict=True):
            expected[b, h, t] += score / sum(scores) * v[b, g, s]
    torch.testing.assert_close(attend(q, k, v, mask=allowed, causal=causal), expected, atol=1e-5, rtol=1e-5)


def test_weights_sum_to_one_and_never_look_ahead() -> None:
    q, k, _ = qkv(4, 4, 4, 6)
    weights = attention_weights(q, k)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 4))
    assert (weights[..., ~causal_mask(4, 6)] == 0).all()


def test_the_last_query_sees_all_keys() -> None:
    assert causal_mask(2, 4).tolist() == [[True, True, True, False], [True, True, True, True]]


@pytest.mark.parametrize("attend", [manual_attention, fused_attention])
def test_dropout_drops_in_both(attend) -> None:
    q, k, v = qkv(4, 4, 6, 6)
    torch.manual_seed(0)
    outputs = torch.stack([attend(q, k, v, dropout=0.5) for _ in range(400)])
    assert not torch.equal(outputs[0], outputs[1])
    torch.testing.assert_close(outputs.mean(0), attend(q, k, v), atol=0.3, rtol=0)  # scaled to keep the mean


# --- the model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_cached_equals_uncached_in_any_chunking(name: str) -> None:
    model, ids = variant(name), random_ids(3, 12)
    with torch.no_grad():
        whole = model(ids)
        for chunks in ([12], [1] * 12, [5, 1, 6], [3, 4, 5], [11, 1]):
            cache = model.make_cache(3)
            pieces = [model(piece, cache) for piece in ids.split(chunks, dim=1)]
            assert cache.length == 12
            torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_later_token_never_changes_an_earlier_logit(name: str) -> None:
    model, ids = variant(name), random_ids(1, 12)
    with torch.no_grad():
        before = model(ids)
        for position in range(1, 12):
            changed = ids.clone()
            changed[0, position] = (changed[0, position] + 1) % 17
            after = model(changed)
            torch.testing.assert_close(after[:, :position], before[:, :position], atol=1e-6, rtol=0)
            assert not torch.allclose(after[:, position:], before[:, position:], atol=1e-4)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "manual"])
def test_manual_and_fused_models_agree(name: str) -> None:
    fused = variant(name)
    manual = GPT(fused.config.replace(attention="manual")).eval()
    manual.load_state_dict(fused.state_dict())
    ids = random_ids(2, 12)
    with torch.no_grad():
        torch.testing.assert_close(manual(ids), fused(ids), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_counted_parameters_are_the_real_ones(name: str) -> None:
    model = variant(name)
    counted = sizes(model.config)
    assert counted.parameters == sum(p.numel() for p in model.parameters())
    embeddings = [model.token_embedding] + ([model.position_embedding] if model.position_embedding else [])
    assert counted.parameters_without_embeddings == counted.parameters - sum(e.weight.numel() for e in embeddings)
    cache = model.make_cache(1)
    assert counted.cache_bytes == 4 * sum(tensor.numel() for tensor in (*cache.keys, *cache.values))


def test_gpt2_sizes() -> None:
    """The published models' counts (openai-community/gpt2 and its sisters, output layer tied)."""
    counts = {name: sizes(config).parameters for name, config in GPT2_FAMILY.items()}
    assert counts == {
        "gpt2": 124_439_808,
        "gpt2-medium": 354_823_168,
        "gpt2-large": 774_030_080,
        "gpt2-xl": 1_557_611_200,
    }


@pytest.mark.parametrize("name", ["gpt2", "rmsnorm swiglu", "grouped heads", "untied softcap"])
def test_counted_flops_are_those_that_torch_counts(name: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = GPT(variant(name).config.replace(attention="manual"))
    with FlopCounterMode(display=False) as counter:
        model(random_ids(1, 12))
    assert counter.get_total_flops() == 12 * sizes(model.config).flops_per_token_forward


@pytest.mark.usefixtures("own_compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # raised inside torch when it first traces
def test_gelu_is_the_same_function_where_it_is_compiled() -> None:
    x = torch.linspace(-12, 12, 1001, dtype=torch.float64, requires_grad=True)
    traced = torch.compile(gelu_tanh, backend="eager")  # follows the compiler's branch, and needs no compiler for it
    plain, other = gelu_tanh(x), traced(x)
    torch.testing.assert_close(other, plain, atol=1e-14, rtol=0)
    torch.testing.assert_close(*(torch.autograd.grad(y.sum(), x) for y in (other, plain)), atol=1e-14, rtol=0)


def test_logits_equal_those_of_transformers_gpt2() -> None:
    """An independent GPT-2 with random weights, its weights copied into ours, gives the same logits."""
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=17, n_positions=12, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = GPT(TINY.replace(activation="gelu_tanh")).eval()
    names = {"wte": "token_embedding", "wpe": "position_embedding", "ln_f": "final_norm", "h": "blocks"}
    inner = {
        "ln_1": "norm_1",
        "ln_2": "norm_2",
        "attn.c_attn": "attn.qkv",
        "attn.c_proj": "attn.proj",
        "mlp.c_fc": "mlp.fc",
        "mlp.c_proj": "mlp.proj",
    }
    renamed = {}
    for name, value in theirs.transformer.state_dict().items():
        first, _, rest = name.partition(".")
        new = f"{names[first]}.{rest}"
        for old, ours_name in inner.items():
            new = new.replace(old, ours_name)
        renamed[new] = value.T if new.endswith(("qkv.weight", "proj.weight", "fc.weight")) else value
    ours.load_state_dict(renamed)
    ids = random_ids(2, 12)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_logits_equal_those_of_transformers_llama(kv_heads: int) -> None:
    """The other family: rotary by halves, RMSNorm, SwiGLU, grouped heads, untied output."""
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=17,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=12,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    theirs = transformers.LlamaForCausalLM(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = GPT(
        TINY.replace(
            position="rotary",
            norm="rmsnorm",
            activation="swiglu",
            n_inner=40,
            bias=False,
            n_kv_head=kv_heads,
            tie_weights=False,
        )
    ).eval()
    s = theirs.state_dict()
    renamed = {
        "token_embedding.weight": s["model.embed_tokens.weight"],
        "final_norm.weight": s["model.norm.weight"],
        "lm_head.weight": s["lm_head.weight"],
    }
    for i in range(2):
        old, new = f"model.layers.{i}", f"blocks.{i}"
        renamed |= {
            f"{new}.attn.qkv.weight": torch.cat([s[f"{old}.self_attn.{x}_proj.weight"] for x in "qkv"]),
            f"{new}.attn.proj.weight": s[f"{old}.self_attn.o_proj.weight"],
            f"{new}.mlp.fc.weight": s[f"{old}.mlp.up_proj.weight"],
            f"{new}.mlp.gate.weight": s[f"{old}.mlp.gate_proj.weight"],
            f"{new}.mlp.proj.weight": s[f"{old}.mlp.down_proj.weight"],
            f"{new}.norm_1.weight": s[f"{old}.input_layernorm.weight"],
            f"{new}.norm_2.weight": s[f"{old}.post_attention_layernorm.weight"],
        }
    ours.load_state_dict(renamed)
    ids = random_ids(2, 12)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4)


def test_too_long_a_sequence_is_refused() -> None:
    model = variant("gpt2")
    with pytest.raises(ValueError, match="13 tokens do not fit the block size 12"):
        model(random_ids(1, 13))
    cache = model.make_cache(1)
    model(random_ids(1, 12), cache)
    with pytest.raises(ValueError, match="crop"):
        model(random_ids(1, 1), cache)


def test_a_full_cache_is_refused_and_a_cleared_one_begins_again() -> None:
    model, ids = variant("rotary half"), random_ids(1, 8)
    small = KVCache(model.config, 1, length=8)
    with torch.no_grad():
        first = model(ids, small)
        with pytest.raises(ValueError, match="room for 8"):
            model(random_ids(1, 1), small)
        small.clear()
        assert torch.equal(model(ids, small), first)


def test_dropout_only_in_training() -> None:
    model = GPT(TINY.replace(dropout=0.5))
    ids = random_ids(1, 12)
    with torch.no_grad():
        assert not torch.equal(model.train()(ids), model(ids))
        assert torch.equal(model.eval()(ids), model(ids))


@pytest.mark.parametrize("place", ["embd", "attn", "resid"])
def test_each_place_has_its_own_dropout(place: str) -> None:
    model = GPT(TINY.replace(dropout=0.0, **{f"{place}_dropout": 0.5}))
    ids = random_ids(1, 12)
    with torch.no_grad():
        assert not torch.equal(model.train()(ids), model(ids))
    none = GPT(TINY.replace(dropout=0.5, embd_dropout=0.0, attn_dropout=0.0, resid_dropout=0.0))
    with torch.no_grad():
        assert torch.equal(none.train()(ids), none(ids))


def test_soft_cap_bends_the_logits_smoothly() -> None:
    capped = variant("untied softcap")
    plain = GPT(capped.config.replace(logit_softcap=None)).eval()
    plain.load_state_dict(capped.state_dict())
    logits = plain(random_ids(2, 12)) * 1.0
    torch.testing.assert_close(capped(random_ids(2, 12)), 5.0 * (logits / 5.0).tanh())


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_queries_and_keys_are_normalised(norm: str) -> None:
    attn = GPT(TINY.replace(qk_norm=True, norm=norm)).blocks[0].attn
    q, k, v = attn.heads(torch.randn(2, 5, 32) * 100)
    for x, normalised in ((q, True), (k, True), (v, False)):
        assert torch.allclose(x.square().mean(-1), torch.ones(2, 4, 5), atol=1e-3) == normalised


@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_a_block_by_hand(norm_position: str) -> None:
    block = GPT(TINY.replace(norm_position=norm_position, layer_scale=1.0)).blocks[0]
    torch.nn.init.uniform_(block.scale_1.weight)
    torch.nn.init.uniform_(block.scale_2.weight)
    torch.nn.init.uniform_(block.norm_1.weight)
    x = torch.randn(2, 5, 32)
    if norm_position == "pre":
        middle = x + block.scale_1.weight * block.attn(block.norm_1(x), 0)
        expected = middle + block.scale_2.weight * block.mlp(block.norm_2(middle))
    else:
        middle = block.norm_1(x + block.scale_1.weight * block.attn(x, 0))
        expected = block.norm_2(middle + block.scale_2.weight * block.mlp(middle))
    torch.testing.assert_close(block(x, 0), expected)


def test_memory_of_the_optimizer_is_what_adamw_keeps() -> None:
    model = variant("gpt2")
    optimizer = torch.optim.AdamW(model.parameters())
    model(random_ids(1, 12)).sum().backward()
    optimizer.step()
    kept = sum(v.numel() * 4 for state in optimizer.state.values() for v in state.values() if v.dim())
    counted = sizes(model.config)
    assert counted.optimizer_bytes == kept
    assert counted.weight_bytes == counted.gradient_bytes == 4 * counted.parameters


def test_initialisation() -> None:
    torch.manual_seed(0)
    model = GPT(TINY.replace(n_layer=8, n_embd=128, vocab_size=500, tie_weights=False))
    for name, parameter in model.named_parameters():
        if name.endswith("proj.weight"):
            assert parameter.std().item() == pytest.approx(0.02 / math.sqrt(16), rel=0.05), name
        elif parameter.dim() == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name
        else:
            assert torch.equal(parameter, torch.full_like(parameter, "norm" in name and name.endswith("weight"))), name


def test_zero_init_makes_blocks_the_identity() -> None:
    model = GPT(TINY.replace(zero_init=True))
    x = torch.randn(2, 5, 32)
    assert torch.equal(model.blocks[1](x, 1), x)


def test_initial_loss_is_that_of_guessing() -> None:
    model = variant("gpt2")
    torch.manual_seed(0)
    model = GPT(TINY)
    ids = random_ids(8, 12)
    loss = torch.nn.functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(17), abs=0.05)


# --- positions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_rotation_by_complex_numbers(pairing: str) -> None:
    """Position p turns pair i by p / base^(2i/D), as a product of complex numbers does."""
    D, T, base = 8, 5, 100.0
    x = torch.randn(1, 1, T, D)
    pairs = x.unflatten(-1, (2, D // 2)).transpose(-1, -2) if pairing == "half" else x.unflatten(-1, (D // 2, 2))
    angles = torch.tensor([[p / base ** (2 * i / D) for i in range(D // 2)] for p in range(T)])
    turned = torch.view_as_real(
        torch.view_as_complex(pairs.contiguous()) * torch.polar(torch.ones_like(angles), angles)
    )
    expected = turned.transpose(-1, -2).flatten(-2) if pairing == "half" else turned.flatten(-2)
    cos, sin = rotary_table(T, D, base, pairing)
    torch.testing.assert_close(Rotation(cos, sin, pairing)(x), expected)


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_rotated_products_depend_on_the_distance_only(pairing: str) -> None:
    cos, sin = rotary_table(32, 8, 10_000.0, pairing)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    rotate = Rotation(cos, sin, pairing)
    products = rotate(q.expand(1, 1, 32, 8)) @ rotate(k.expand(1, 1, 32, 8)).transpose(-1, -2)
    for distance in range(5):
        diagonal = products[0, 0].diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=1e-4)


def test_sinusoids_by_hand() -> None:
    table = sinusoidal_table(50, 6)
    for p, i in itertools.product((0, 1, 49), range(3)):
        angle = p / 10_000 ** (2 * i / 6)
        assert table[p, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert table[p, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_without_positions_one_layer_sees_a_bag_of_tokens() -> None:
    """(Deeper layers do tell order apart: the causal mask lets earlier positions see less.)"""
    model, ids = GPT(TINY.replace(position="none", n_layer=1, init_std=0.2)).eval(), random_ids(1, 12)
    swapped = ids[:, [1, 0, *range(2, 12)]]
    with torch.no_grad():
        torch.testing.assert_close(model(ids)[:, -1], model(swapped)[:, -1], atol=1e-5, rtol=1e-5)


# --- bigram ------------------------------------------------------------------------------------------------------


def test_bigram_counts_by_hand() -> None:
    model = Bigram.counted([0, 1, 0, 1, 1], ModelConfig(kind="bigram", vocab_size=2))
    probabilities = model(torch.tensor([[0, 1]])).softmax(-1)[0]
    torch.testing.assert_close(probabilities, torch.tensor([[1 / 4, 3 / 4], [2 / 4, 2 / 4]]))


def test_bigram_has_the_interface_of_the_gpt() -> None:
    model = make_model(ModelConfig(kind="bigram", vocab_size=17, block_size=12))
    assert model(random_ids(2, 5)).shape == (2, 5, 17)
    assert sizes(model.config).parameters == sum(p.numel() for p in model.parameters()) == 17 * 17


# --- configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_head": 5}, "n_head 5 does not divide n_embd 32"),
        ({"n_kv_head": 3}, "n_kv_head 3 does not divide n_head 4"),
        ({"position": "rotary", "n_embd": 12}, "even width"),
        ({"position": "sinusoidal", "n_embd": 9, "n_head": 3}, "even"),
        ({"dropout": 1.0}, "less than 1"),
        ({"n_layer": 0}, "greater than or equal to 1"),
        ({"activation": "gelo"}, "gelu"),
        ({"n_heads": 4}, "did you mean 'n_head'"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TINY.replace(**changes)


def test_swiglu_has_about_as_many_parameters_as_the_others() -> None:
    plain, gated = (sizes(GPT2_FAMILY["gpt2"].replace(activation=a)).by_part["mlp"] for a in ("gelu", "swiglu"))
    assert gated == pytest.approx(plain, rel=0.01)


def test_configuration_cannot_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TINY.n_layer = 3


@pytest.mark.parametrize("keys", [7, SHORT + 1])
def test_attention_in_bfloat16_is_that_in_float32(keys: int) -> None:
    """On a CPU, short sequences take another way than long ones."""
    q, k, v = (torch.randn(2, 4, keys, 8) for _ in range(3))
    expected = fused_attention(q, k, v)
    halves = fused_attention(*(x.bfloat16() for x in (q, k, v)))
    assert halves.dtype is torch.bfloat16
    torch.testing.assert_close(halves.float(), expected, atol=0.05, rtol=0.05)
