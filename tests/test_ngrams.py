"""Embeddings of several tokens as one: told by hand, cached as uncached, and without effect at the beginning."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from glassgpt.model import ModelConfig
from glassgpt.model.embeddings import NgramEmbedding
from glassgpt.model.gpt import GPT
from glassgpt.model.sizing import sizes

CONFIG = ModelConfig(vocab_size=5, block_size=12, n_layer=2, n_head=2, n_embd=8, ngrams=3, position="rotary")


def filled(module: nn.Module) -> nn.Module:
    """With weights that tell every row from every other."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module


def test_each_combination_has_its_row() -> None:
    """By hand, with a dictionary in place of the arithmetic: equal combinations have equal vectors, others have not."""
    embedding = filled(NgramEmbedding(CONFIG))
    assert [table.num_embeddings for table in embedding.tables] == [36, 216]
    ids = torch.randint(5, (40, 12))
    vectors = embedding(ids, embedding.nothing(40, ids.device))
    seen: dict[tuple[int, ...], torch.Tensor] = {}
    for row, line in zip(vectors, ids.tolist(), strict=True):
        known = [5, 5, *line]
        for t, vector in enumerate(row):
            three = tuple(known[t : t + 3])
            torch.testing.assert_close(vector, seen.setdefault(three, vector))
    assert len(torch.stack(list(seen.values())).unique(dim=0)) == len(seen) > 100


@pytest.mark.parametrize(("vocab_size", "ngrams"), [(5, 6), (300, 4), (50257, 8)])
def test_where_rows_are_few_they_are_shared_evenly(vocab_size: int, ngrams: int) -> None:
    config = CONFIG.replace(vocab_size=vocab_size, ngrams=ngrams, ngram_entries=64, n_embd=4)
    embedding = NgramEmbedding(config)
    ids = torch.randint(vocab_size, (500, 12))
    known = torch.cat((embedding.nothing(500, ids.device), ids), dim=1)
    looked_up = []
    for table in embedding.tables:
        table.register_forward_hook(lambda _module, rows, _out: looked_up.append(rows[0]))
    embedding(ids, embedding.nothing(500, ids.device))
    for length, rows in enumerate(looked_up, start=2):
        windows = known.unfold(1, length, 1)[:, -12:].flatten(0, 1)  # the last `length` tokens of every place
        row_of = dict(zip(map(tuple, windows.tolist()), rows.flatten().tolist(), strict=True))
        if len(row_of) > 640:
            counts = torch.bincount(torch.tensor(list(row_of.values())), minlength=64).float()
            assert len(counts) == 64
            assert counts.std() < 1.5 * counts.mean().sqrt()  # a throw of dice comes to about 1


def test_only_the_last_n_tokens_matter() -> None:
    embedding = filled(NgramEmbedding(CONFIG))
    ids = torch.randint(5, (1, 12))
    other = ids.clone()
    other[0, 3] = (ids[0, 3] + 1) % 5
    changed = [(embedding(x, embedding.nothing(1, x.device)))[0] for x in (ids, other)]
    different = (changed[0] != changed[1]).any(dim=-1).nonzero().flatten().tolist()
    assert different == [3, 4, 5]


def test_a_new_model_is_as_it_would_be_without_them() -> None:
    torch.manual_seed(0)
    model = GPT(CONFIG)
    ids = torch.randint(5, (3, 12))
    with_tables = model(ids)
    model.ngram_embedding = None
    assert torch.equal(with_tables, model(ids))


@given(cuts=st.lists(st.integers(1, 11), max_size=4, unique=True))
def test_cached_as_uncached_however_the_prompt_is_cut(cuts: list[int]) -> None:
    model = filled(GPT(CONFIG.replace(ngrams=4, ngram_entries=50))).eval()
    ids = torch.randint(5, (2, 12), generator=torch.Generator().manual_seed(7))
    ends = [*sorted(cuts), 12]
    with torch.inference_mode():
        whole = model(ids)
        cache = model.make_cache(2)
        for turn in range(2):  # the second time after clear
            cache.clear()
            pieces = [model(ids[:, a:b], cache) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
            torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-5, msg=f"turn {turn}")


def test_their_size_is_told() -> None:
    counted = sizes(CONFIG)
    model = GPT(CONFIG)
    assert counted.by_part["n-gram embeddings"] == sum(p.numel() for p in model.ngram_embedding.parameters())
    assert counted.parameters == sum(p.numel() for p in model.parameters())
    assert counted.parameters_without_embeddings == counted.parameters - 5 * 8 - (36 + 216) * 8
