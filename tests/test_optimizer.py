"""AdamW and Muon by hand beside torch's own, and what moves which parameter."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from glassgpt.errors import UserError
from glassgpt.model import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.recipes import TrainingConfig
from glassgpt.training.optimizer import AdamW, Muon, Optimizer, orthogonalised

SHAPES = {"a": (5, 3), "b": (4,), "c": (2, 2)}
SMALL = ModelConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=16, ngrams=3, tie_weights=False)


def parameters(seed: int = 0, dtype: torch.dtype = torch.float32, **shapes: tuple[int, ...]) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
        for name, shape in (shapes or SHAPES).items()
    }


def give_gradients(step: int, named: dict[str, nn.Parameter], without: str = "") -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for name, parameter in named.items():
        gradient = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        parameter.grad = None if name == without else gradient


@pytest.mark.parametrize("by_hand", [False, True])
def test_adamw_is_torchs(by_hand: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_hand:
        monkeypatch.setattr("glassgpt.training.optimizer._has_fused_adamw", lambda _: False)
    config = TrainingConfig(max_steps=1, beta1=0.8, beta2=0.95, eps=1e-6)
    ours, theirs = parameters(), parameters()
    mine = AdamW(ours, 1e-2, 0.3, config)
    other = torch.optim.AdamW(theirs.values(), lr=1e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3, fused=True)
    for step in range(6):
        for named in (ours, theirs):
            give_gradients(step, named, without="c" if step == 2 else "")
        rate = 0.01 / (step + 1)
        other.param_groups[0]["lr"] = rate
        mine.step(rate)
        other.step()
    tolerance = {"atol": 1e-6, "rtol": 1e-5} if by_hand else {"atol": 0.0, "rtol": 0.0}
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter, theirs[name], **tolerance)
    assert int(mine.state["c"]["step"]) == 5  # the step without a gradient does not count


def test_muon_is_torchs() -> None:
    """torch's takes products in bfloat16, one matrix at a time."""
    shapes = {"wide": (8, 32), "tall": (32, 8), "second": (8, 32), "square": (16, 16)}
    config = TrainingConfig(max_steps=1, muon_momentum=0.9)
    ours, theirs = parameters(**shapes), parameters(**shapes)
    mine = Muon(ours, 0.02, 0.1, config, torch.bfloat16)
    other = torch.optim.Muon(theirs.values(), lr=0.02, weight_decay=0.1, momentum=0.9)
    before = {name: parameter.detach().clone() for name, parameter in ours.items()}
    for step in range(4):
        for named in (ours, theirs):
            give_gradients(step, named)
        mine.step(0.02)
        other.step()
    for name, parameter in ours.items():
        moved = [(p.detach() - before[name]).flatten() for p in (parameter, theirs[name])]
        assert torch.cosine_similarity(*moved, dim=0) > 0.999, name
        assert moved[0].norm().item() == pytest.approx(moved[1].norm().item(), rel=0.01), name


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), rounds=st.integers(1, 6), seed=st.integers(0, 99))
def test_orthogonalising_changes_singular_values_only(rows: int, columns: int, rounds: int, seed: int) -> None:
    """By singular value decomposition: the polynomial, applied to each of them."""
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / (s.norm() + 1e-7)
    for _ in range(rounds):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    expected = u @ torch.diag(s) @ v
    torch.testing.assert_close(orthogonalised(matrix[None], rounds, torch.float64)[0], expected, atol=1e-9, rtol=1e-9)


def test_five_rounds_bring_singular_values_near_one() -> None:
    matrices = torch.randn(6, 24, 48, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(matrices))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_matrices_that_share_a_stack_do_not_touch_each_other() -> None:
    config = TrainingConfig(max_steps=1)
    together, alone = parameters(x=(6, 4), y=(6, 4)), parameters(x=(6, 4), y=(6, 4))
    pair = Muon(together, 0.02, 0.0, config, torch.float32)
    single = Muon({"x": alone["x"]}, 0.02, 0.0, config, torch.float32)
    for step in range(3):
        for named in (together, alone):
            give_gradients(step, named)
        pair.step(0.02)
        single.step(0.02)
    torch.testing.assert_close(together["x"], alone["x"], atol=1e-6, rtol=1e-5)


def test_what_moves_what() -> None:
    config = TrainingConfig(max_steps=1, optimizer="muon", embedding_learning_rate=0.5, weight_decay=0.1)
    model = GPT(SMALL)
    parts = {name: part for part in Optimizer(model, config).parts for name in part.parameters}
    assert parts.keys() == dict(model.named_parameters()).keys()
    for name, part in parts.items():
        hidden = name.startswith("blocks.") and name.endswith(("qkv.weight", "proj.weight", "fc.weight"))
        assert isinstance(part, Muon if hidden else AdamW), name
        assert part.peak == (0.02 if hidden else 0.5 if "embedding" in name else 1e-3), name
        assert part.weight_decay == (0.1 if model.get_parameter(name).dim() > 1 else 0.0), name


def test_adamw_moves_everything_by_default() -> None:
    parts = Optimizer(GPT(SMALL), TrainingConfig(max_steps=1)).parts
    assert all(isinstance(part, AdamW) and part.peak == 1e-3 for part in parts)


def test_a_share_of_the_peak_is_a_share_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = Optimizer(GPT(SMALL), TrainingConfig(max_steps=1, optimizer="muon", embedding_learning_rate=0.5))
    rates = []
    for part in optimizer.parts:
        monkeypatch.setattr(part, "step", rates.append)
    optimizer.step(0.25)
    assert sorted(rates) == pytest.approx(sorted([0.005, 0.125, 0.00025, 0.00025]))


def stepped(optimizer: Optimizer, model: nn.Module, steps: range) -> None:
    for step in steps:
        give_gradients(step, dict(model.named_parameters()))
        optimizer.step(1.0)


def test_it_goes_on_from_its_state_to_the_bit() -> None:
    config = TrainingConfig(max_steps=1, optimizer="muon")
    torch.manual_seed(0)
    model = GPT(SMALL)
    optimizer = Optimizer(model, config)
    stepped(optimizer, model, range(3))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = {name: value.clone() for name, value in optimizer.state().items()}
    stepped(optimizer, model, range(3, 6))

    again = GPT(SMALL)
    other = Optimizer(again, config)
    again.load_state_dict(weights)
    other.load_state(state)
    stepped(other, again, range(3, 6))
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_another_optimizers_state_is_refused() -> None:
    model = GPT(SMALL)
    state = Optimizer(model, TrainingConfig(max_steps=1)).state()
    with pytest.raises(ValueError, match="another kind"):
        Optimizer(model, TrainingConfig(max_steps=1, optimizer="muon")).load_state(state)


def test_muon_needs_blocks() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(3, 3)

        def forward(self, ids: Tensor) -> Tensor:
            return self.table(ids)

    with pytest.raises(UserError, match="Table has no `blocks`"):
        Optimizer(Table(), TrainingConfig(max_steps=1, optimizer="muon"))
