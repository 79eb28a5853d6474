"""Memory: activation checkpointing and the loss in parts change what is held, and nothing else."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.data.batches import Batches, as_token_array
from glassgpt.errors import UserError
from glassgpt.model import ModelConfig
from glassgpt.model.bigram import Bigram
from glassgpt.model.cache import KVCache
from glassgpt.model.gpt import GPT
from glassgpt.model.sizing import sizes
from glassgpt.recipes import TrainingConfig
from glassgpt.training import loss as loss_module
from glassgpt.training.loss import summed_loss
from glassgpt.training.memory import checkpoint_activations
from glassgpt.training.trainer import Trainer

SMALL = ModelConfig(vocab_size=20, block_size=16, n_layer=4, n_head=2, n_embd=32)
MODERN = {"position": "rotary", "norm": "rmsnorm", "activation": "relu2", "qk_norm": True, "bias": False}
IDS = torch.arange(32).reshape(2, 16) % 20


def make(checkpointed: bool, **changes) -> GPT:
    torch.manual_seed(0)
    model = GPT(SMALL.replace(**changes))
    if checkpointed:
        checkpoint_activations(model)
    return model


def gradients(model: nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(1)
    summed_loss(model(IDS), IDS).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def saved_bytes(model: nn.Module) -> int:
    """What a forward pass keeps for the backward one, each memory counted once."""
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = model(IDS)  # what it returns keeps alive what it saved
    assert held.requires_grad
    return sum(size for place, size in saved.items() if place not in weights)


# --- activation checkpointing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"dropout": 0.3}, {**MODERN, "dropout": 0.3}], ids=["plain", "drop", "modern"])
def test_gradients_are_the_same_to_the_bit(changes: dict) -> None:
    plain, checkpointed = (gradients(make(on, **changes)) for on in (False, True))
    assert plain.keys() == checkpointed.keys()
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)


def test_dropout_is_at_work_in_that_test() -> None:
    without, with_dropout = (gradients(make(True, dropout=dropout)) for dropout in (0.0, 0.3))
    assert any(not torch.equal(without[name], with_dropout[name]) for name in without)


def test_of_each_block_only_its_input_is_kept() -> None:
    plain, checkpointed = saved_bytes(make(False)), saved_bytes(make(True))
    inputs = SMALL.n_layer * IDS.numel() * SMALL.n_embd * 4
    outside = 3 * IDS.numel() * SMALL.n_embd * 4  # the last norm and the output layer
    assert checkpointed < inputs + outside
    assert plain > 5 * checkpointed
    deeper = saved_bytes(make(True, n_layer=8))
    assert deeper - checkpointed == inputs  # four blocks more: four inputs more


def test_training_is_the_same_to_the_bit() -> None:
    ids = as_token_array(torch.randint(20, (400,)).tolist(), 20)

    def weights(on: bool) -> dict[str, Tensor]:
        config = TrainingConfig(max_steps=4, batch_size=2, device="cpu", activation_checkpointing=on)
        trainer = Trainer(make(False, dropout=0.2), Batches(ids, 16, 2), config)
        assert sum(1 for _ in trainer)
        return trainer.model.state_dict()

    plain, checkpointed = weights(False), weights(True)
    assert list(plain) == list(checkpointed)  # no name has changed
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)


def test_it_leaves_evaluation_and_the_cache_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, checkpointed = make(False), make(True)
    monkeypatch.setattr("glassgpt.training.memory.checkpoint", None)  # would fail, were it called
    for model in (plain, checkpointed):
        model.eval()
    cache: KVCache = checkpointed.make_cache(2)
    parts = [checkpointed(part, cache) for part in IDS.split(5, dim=1)]
    assert torch.equal(plain(IDS), checkpointed(IDS))
    torch.testing.assert_close(torch.cat(parts, dim=1), plain(IDS))
    checkpointed.train()
    with torch.no_grad():
        assert torch.equal(plain(IDS), checkpointed(IDS))


def test_a_copy_of_the_model_has_blocks_of_its_own() -> None:
    model = make(True)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert not model(IDS).any()
    assert twin(IDS).any()


def test_a_model_of_ones_own_with_blocks_will_do_and_one_without_is_told() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(20, 8)
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8)) for _ in range(3))
            self.out = nn.Linear(8, 20)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids)
            for block in self.blocks:
                x = x + block(x)
            return self.out(x)

    model = Own()
    plain = gradients(model)
    kept = saved_bytes(model)
    model.zero_grad()
    checkpoint_activations(model)
    again = gradients(model)
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert saved_bytes(model) < kept / 2
    settings = TrainingConfig(max_steps=1, device="cpu", activation_checkpointing=True)
    with pytest.raises(UserError, match=r"activation_checkpointing: Bigram has no `blocks`"):
        Trainer(Bigram(ModelConfig(kind="bigram", vocab_size=20)), lambda _: (IDS, IDS), settings)


# --- the loss ----------------------------------------------------------------------------------------------------


def in_parts(monkeypatch: pytest.MonkeyPatch, numbers: int) -> None:
    monkeypatch.setattr(loss_module, "_numbers_at_once", lambda _: numbers)


def loss_and_gradient(function, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.detach().requires_grad_()
    loss = function(logits, targets) / 7
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.detach(), gradient


def torchs_own(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("numbers", [1, 150, 10_000], ids=["row by row", "some rows", "all rows"])
def test_the_loss_in_parts_is_torchs_own(monkeypatch: pytest.MonkeyPatch, numbers: int, dtype: torch.dtype) -> None:
    logits, targets = (20 * torch.randn(2, 5, 50)).to(dtype), torch.randint(50, (2, 5))
    logits[0, 0, 0], targets[0, 0] = 300, 0  # as sure as can be, and right
    logits[0, 1, 0], targets[0, 1] = 300, 1  # and wrong
    expected, expected_gradient = loss_and_gradient(torchs_own, logits, targets)
    in_parts(monkeypatch, numbers)
    loss, gradient = loss_and_gradient(summed_loss, logits, targets)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, expected_gradient)
    assert gradient.dtype == dtype


def test_an_infinite_logit_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = torch.randn(1, 4, 10), torch.randint(10, (1, 4))
    logits[0, 2, 3] = float("inf")
    in_parts(monkeypatch, 20)
    assert not summed_loss(logits, targets).isfinite()


def test_the_loss_keeps_the_logits_and_no_copy_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts(monkeypatch, 100)
    logits, targets = torch.randn(1, 64, 50, requires_grad=True), torch.randint(50, (1, 64))
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        loss = summed_loss(logits, targets)
    assert loss.requires_grad
    others = [tensor.numel() for tensor in kept if tensor.data_ptr() != logits.data_ptr()]
    assert others
    assert max(others) == 64  # a number a row


def test_evaluation_takes_the_loss_in_parts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts(monkeypatch, 100)
    logits, targets = torch.randn(2, 8, 50), torch.randint(50, (2, 8))
    with torch.inference_mode():
        torch.testing.assert_close(summed_loss(logits, targets), torchs_own(logits, targets))


# --- telling it beforehand ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"activation": "swiglu"}, {"n_kv_head": 1}, {"n_inner": 48, "bias": False}], ids=str
)
def test_activations_are_as_many_as_info_says(changes: dict) -> None:
    def per_layer(count) -> int:  # the difference that one more block makes, so without what is kept outside of them
        return count(SMALL.replace(**changes, n_layer=5)) - count(SMALL.replace(**changes, n_layer=4))

    def told(config: ModelConfig) -> int:
        return sizes(config).activation_bytes * len(IDS)

    assert per_layer(lambda config: saved_bytes(GPT(config))) == pytest.approx(per_layer(told), rel=0.03)


def test_other_kinds_keep_more_but_not_twice_as_much() -> None:
    modern = SMALL.replace(**MODERN)
    assert 1 < saved_bytes(GPT(modern)) / (sizes(modern).activation_bytes * len(IDS)) < 2
