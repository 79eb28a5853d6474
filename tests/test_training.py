"""The loop and whole runs: it learns, and repeats itself to the bit."""

import itertools
import json
import math
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from glassgpt.data.batches import Batches, Windows
from glassgpt.data.tokens import Measure
from glassgpt.errors import UserError
from glassgpt.model import ModelConfig
from glassgpt.model.bigram import Bigram
from glassgpt.model.gpt import GPT
from glassgpt.recipes import TrainingConfig, load_recipe
from glassgpt.runs import load, read_metrics
from glassgpt.training import session, setup
from glassgpt.training.baseline import bigram_score
from glassgpt.training.checkpoints import load_newest_checkpoint, save_checkpoint
from glassgpt.training.evaluation import Score, evaluate, summed_loss
from glassgpt.training.optimizer import Optimizer, learning_rate
from glassgpt.training.precision import choose_precision
from glassgpt.training.trainer import Checkpoint, Evaluation, Step, Trainer, total_steps
from tests.conftest import TEXT
from tests.small_runs import QUIET, comparable, recipe_for, same

TINY = ModelConfig(vocab_size=20, block_size=8, n_layer=2, n_head=2, n_embd=32)
IDS = np.random.default_rng(0).integers(20, size=500).astype(np.uint8)


def make_trainer(model: nn.Module | None = None, validation: bool = False, **settings) -> Trainer:
    torch.manual_seed(0)
    model = model or GPT(TINY)
    config = TrainingConfig(**{"max_steps": 6, "device": "cpu", "batch_size": 4, **settings})
    windows = Windows(IDS[400:], 8) if validation else None
    return Trainer(model, Batches(IDS[:400], 8, config.batch_size, seed=config.seed), config, windows)


def weights_after(trainer: Trainer) -> dict[str, Tensor]:
    for _ in trainer:
        pass
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


# --- learning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "position": "rotary",
            "norm": "rmsnorm",
            "activation": "relu2",
            "qk_norm": True,
            "zero_init": True,
            "bias": False,
        },
        {"norm_position": "post", "position": "sinusoidal", "activation": "swiglu", "layer_scale": 1.0, "n_kv_head": 1},
        {"attention": "manual", "tie_weights": False, "logit_softcap": 15.0},
    ],
    ids=["gpt2", "modern", "post-norm", "manual"],
)
def test_a_tiny_model_learns_one_batch_by_heart(changes: dict) -> None:
    torch.manual_seed(0)
    model = GPT(TINY.replace(**changes))
    rows = torch.randint(20, (4, 9))
    rows[:, 0] = torch.arange(4)  # so that each row can be told from its first token on
    config = TrainingConfig(max_steps=200, learning_rate=3e-3, weight_decay=0.0, device="cpu", warmup_steps=10)
    losses = [
        event.loss.item()
        for event in Trainer(model, lambda _: (rows[:, :-1], rows[:, 1:]), config)
        if isinstance(event, Step)
    ]
    assert losses[0] > 2.5
    assert losses[-1] < 0.05


def test_any_module_that_maps_ids_to_logits_can_be_trained() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(20, 20)

        def forward(self, ids: Tensor) -> Tensor:
            return self.table(ids)

    losses = [
        event.loss.item() for event in make_trainer(Own(), learning_rate=0.1, max_steps=60) if isinstance(event, Step)
    ]
    assert losses[-1] < losses[0] - 0.2


@pytest.mark.parametrize("vocab_size", [7, 300])
def test_the_bigram_baseline_scores_as_its_table_does(vocab_size: int) -> None:
    ids = np.random.default_rng(0).integers(7, size=3000) ** 2 % vocab_size
    table = Bigram.counted(ids[:2000], ModelConfig(kind="bigram", vocab_size=vocab_size))
    windows = Windows(ids[2000:], 16)
    whole, by_counts = evaluate(table, windows, torch.device("cpu")), bigram_score(ids[:2000], windows, vocab_size)
    assert by_counts.tokens == whole.tokens
    assert by_counts.loss == pytest.approx(whole.loss, rel=1e-6)


def test_the_bigram_by_gradient_descent_comes_to_the_counted_one() -> None:
    ids = np.array([0, 1, 2, 0, 1, 0, 2, 1, 0] * 40, dtype=np.uint8)
    config = ModelConfig(kind="bigram", vocab_size=3, block_size=8)
    trained = Bigram(config)
    settings = TrainingConfig(max_steps=300, learning_rate=0.05, weight_decay=0.0, device="cpu")
    for _ in Trainer(trained, Batches(ids, 8, 16), settings):
        pass
    counted = Bigram.counted(ids, config, smoothing=1e-9)
    windows = Windows(ids, 8)
    scores = [evaluate(model, windows, torch.device("cpu")).loss for model in (trained, counted)]
    assert scores[0] == pytest.approx(scores[1], abs=0.01)
    assert scores[0] > scores[1] - 1e-6  # nothing beats the counts on the text they were taken from


# --- the loop ----------------------------------------------------------------------------------------------------


def test_the_events_of_a_run() -> None:
    trainer = make_trainer(validation=True, max_steps=7, eval_every=3, checkpoint_every=2)
    events = [(type(event).__name__, event.step) for event in trainer]
    assert events == [
        *(("Step", 1), ("Step", 2), ("Checkpoint", 2), ("Step", 3), ("Evaluation", 3), ("Checkpoint", 3)),
        *(("Step", 4), ("Checkpoint", 4), ("Step", 5), ("Step", 6), ("Evaluation", 6), ("Checkpoint", 6)),
        *(("Step", 7), ("Evaluation", 7), ("Checkpoint", 7)),
    ]


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    runs = [weights_after(make_trainer(GPT(TINY.replace(dropout=0.3)), seed=seed)) for seed in (1, 1)]
    torch.manual_seed(0)
    first, second = (weights_after(make_trainer(seed=seed)) for seed in (1, 2))
    assert runs[0].keys() == runs[1].keys()
    assert not same(first, second)


def seeded(dropout: float) -> GPT:
    torch.manual_seed(0)
    return GPT(TINY.replace(dropout=dropout))


def test_the_seed_decides_dropout_and_first_weights(text_file: Path) -> None:
    batch = Batches(IDS, 8, 4)(0)
    losses = {}
    for seed in (1, 2, 1):
        trainer = Trainer(seeded(0.5), lambda _: batch, TrainingConfig(max_steps=1, device="cpu", seed=seed))
        losses.setdefault(seed, set()).add(next(iter(trainer)).loss.item())
    assert len(losses[1]) == 1
    assert losses[1] != losses[2]
    weights = []
    for seed in (1, 2, 1):
        prepared = setup.prepare(recipe_for(text_file, training={"seed": seed}))
        weights.append(dict(setup.make_trainer(prepared).model.state_dict()))
    assert same(weights[0], weights[2])
    assert not same(weights[0], weights[1])


def test_tied_weights_of_any_module_are_saved_and_go_on(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, 8)
            self.head = nn.Linear(8, 20, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.embedding(ids))

    trainer = make_trainer(Tied())
    weights_after(trainer)
    save_checkpoint(trainer, tmp_path, keep=1)
    again = make_trainer(Tied())
    load_newest_checkpoint(again, tmp_path, pytest.fail)
    assert same(dict(trainer.model.state_dict()), dict(again.model.state_dict()))
    assert again.model.head.weight is again.model.embedding.weight


def test_epochs_of_any_batches_that_know_their_windows() -> None:
    config = TrainingConfig(epochs=2, device="cpu", batch_size=4)
    assert Trainer(seeded(0.0), Batches(IDS[:81], 8, 4, order="epochs"), config).total_steps == 5
    with pytest.raises(UserError, match="n_windows"):
        Trainer(seeded(0.0), lambda _: Batches(IDS, 8, 4)(0), config)


def test_evaluating_never_disturbs_training() -> None:
    often = weights_after(make_trainer(seeded(0.3), validation=True, eval_every=1))
    never = weights_after(make_trainer(seeded(0.3)))
    assert same(often, never)


def test_global_random_state_does_not_matter() -> None:
    first = weights_after(make_trainer(seeded(0.3)))
    trainer = make_trainer(seeded(0.3))
    for _ in trainer:
        torch.rand(3)  # a listener that draws random numbers
    assert same(first, dict(trainer.model.state_dict()))


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_are_those_of_one_large_batch(parts: int) -> None:
    large = Batches(IDS, 8, 8)

    def small(number: int) -> tuple[Tensor, Tensor]:
        inputs, targets = large(number // parts)
        return inputs.chunk(parts)[number % parts], targets.chunk(parts)[number % parts]

    one, several = seeded(0.0), seeded(0.0)
    config = TrainingConfig(max_steps=3, device="cpu")
    steps = [
        [e for e in Trainer(model, batches, config.replace(gradient_accumulation=n)) if isinstance(e, Step)]
        for model, batches, n in ((one, large, 1), (several, small, parts))
    ]
    for whole, summed in zip(*steps, strict=True):
        assert summed.tokens == whole.tokens
        torch.testing.assert_close(summed.loss, whole.loss, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(summed.grad_norm, whole.grad_norm, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sizes", [(6,), (3, 3), (5, 1), (1, 2, 3), (1, 1, 1, 1, 1, 1)], ids=str)
def test_accumulated_gradients_are_those_of_one_batch_to_many_digits(
    sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every gradient, in float64, however the batch is parted: a mean of means would be off in the second digit."""

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")

    monkeypatch.setattr("glassgpt.training.trainer.summed_loss", loss)  # ours computes in float32
    inputs, targets = Batches(IDS, 8, 6)(0)

    def gradients(sizes: tuple[int, ...]) -> dict[str, Tensor]:
        parts = list(zip(inputs.split(list(sizes)), targets.split(list(sizes)), strict=True))
        model = seeded(0.0).double()
        config = TrainingConfig(max_steps=1, device="cpu", grad_clip=0.0, gradient_accumulation=len(sizes))
        trainer = Trainer(model, parts.__getitem__, config)
        seen: dict[str, Tensor] = {}
        step = trainer.optimizer.step

        def look(*args, **kwargs):
            seen.update({name: p.grad.clone() for name, p in model.named_parameters()})
            return step(*args, **kwargs)

        monkeypatch.setattr(trainer.optimizer, "step", look)
        next(iter(trainer))
        return seen

    whole, summed = gradients((6,)), gradients(sizes)
    assert whole.keys() == summed.keys() == dict(seeded(0.0).named_parameters()).keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(summed[name], gradient, atol=1e-14, rtol=1e-11, msg=name)


@pytest.mark.parametrize("clip", [1e-3, 1e3, 0.0])
def test_clipping_limits_the_step(clip: float) -> None:
    trainer = make_trainer(grad_clip=clip, max_steps=1)
    seen = []
    old_step = trainer.optimizer.step

    def step(*args, **kwargs):
        seen.append(math.sqrt(sum(float(p.grad.square().sum()) for p in trainer.model.parameters())))
        return old_step(*args, **kwargs)

    trainer.optimizer.step = step
    norm = next(iter(trainer)).grad_norm.item()  # as it was before
    assert 1e-3 < norm < 1e3
    assert seen[0] == pytest.approx(clip if clip == 1e-3 else norm, rel=1e-3)


def test_decay_is_for_matrices_only() -> None:
    model = GPT(TINY)
    optimizer = Optimizer(model, TrainingConfig(max_steps=1, weight_decay=0.3))
    decay = {name: part.weight_decay for part in optimizer.parts for name in part.parameters}
    for name, parameter in model.named_parameters():
        assert decay.pop(name) == (0.3 if parameter.dim() == 2 else 0.0), name
    assert not decay


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "wsd"])
def test_learning_rate_schedules(schedule) -> None:
    config = TrainingConfig(
        max_steps=100, schedule=schedule, learning_rate=1.0, min_learning_rate=0.1, warmup_steps=10, decay_fraction=0.3
    )
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == max(rates) == 1.0
    after = rates[10:]
    assert all(a >= b for a, b in itertools.pairwise(after))
    halfway, last = rates[55], learning_rate(100, 100, config)
    assert last == pytest.approx(1.0 if schedule == "constant" else 0.1)
    assert halfway == pytest.approx({"constant": 1.0, "cosine": 0.55, "linear": 0.55, "wsd": 1.0}[schedule])
    if schedule == "wsd":
        assert rates[70] == 1.0 > rates[71]
        assert rates[85] == pytest.approx(0.55)


@given(step=st.integers(0, 300), total=st.integers(1, 300), warmup=st.integers(0, 50))
def test_learning_rates_stay_within_their_bounds(step: int, total: int, warmup: int) -> None:
    for schedule in ("constant", "cosine", "linear", "wsd"):
        config = TrainingConfig(max_steps=total, schedule=schedule, learning_rate=1.0, warmup_steps=warmup)
        assert 0 <= learning_rate(step, total, config) <= 1


def test_evaluation_is_the_mean_over_all_tokens() -> None:
    """By hand, token by token, each in its own window."""
    model = seeded(0.0).eval()
    total = 0.0
    with torch.no_grad():
        for position in range(1, 30):
            start = (position - 1) // 8 * 8
            logits = model(torch.tensor([IDS[start:position].tolist()]))[0, -1]
            total -= float(logits.log_softmax(-1)[int(IDS[position])])
    score = evaluate(model, Windows(IDS[:30], 8, 2), torch.device("cpu"))
    assert score.tokens == 29
    assert score.loss == pytest.approx(total / 29, rel=1e-5)
    assert score.perplexity == pytest.approx(math.exp(total / 29), rel=1e-5)
    assert Measure(29, 58).bits_per_byte(score.loss) == pytest.approx(total / math.log(2) / 58, rel=1e-5)


def test_evaluation_turns_dropout_off_and_back_on() -> None:
    model = seeded(0.5).train()
    scores = [evaluate(model, Windows(IDS[:100], 8), torch.device("cpu")) for _ in range(2)]
    assert scores[0] == scores[1]
    assert model.training


def test_loss_of_certain_and_of_guessed_tokens() -> None:
    targets = torch.tensor([[1, 2]])
    assert summed_loss(torch.zeros(1, 2, 5), targets).item() == pytest.approx(2 * math.log(5))
    assert summed_loss(nn.functional.one_hot(targets, 5) * 100.0, targets).item() == pytest.approx(0)


def test_mixed_precision_trains_and_keeps_weights_in_float32() -> None:
    batch = Batches(IDS, 8, 4)(0)
    config = TrainingConfig(max_steps=30, precision="bfloat16", learning_rate=1e-2, device="cpu")
    trainer = Trainer(seeded(0.0), lambda _: batch, config)
    losses = [event.loss.item() for event in trainer if isinstance(event, Step)]
    assert losses[-1] < losses[0] - 1
    assert all(p.dtype is torch.float32 for p in trainer.model.parameters())


def test_where_nothing_can_compile_it_goes_on_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(ids: Tensor) -> Tensor:
        raise RuntimeError("no C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", lambda model: broken)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        compiled = weights_after(make_trainer(seeded(0.1), compile=True))
    assert [str(w.message) for w in seen] == ["torch.compile failed, going on without it (no C++ compiler found)"]
    assert same(compiled, weights_after(make_trainer(seeded(0.1))))


def test_a_compiled_model_saves_under_plain_names(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compile_(model: nn.Module):
        return lambda ids: calls.append(1) or model(ids)

    monkeypatch.setattr(torch, "compile", compile_)
    trainer = make_trainer(compile=True)
    weights_after(trainer)
    assert len(calls) == 6
    assert trainer.state()[0].keys() == GPT(TINY).state_dict().keys()


@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler (c++ on the PATH)")
@pytest.mark.usefixtures("own_compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # raised inside torch when it first compiles
@pytest.mark.slow
def test_compiled_training_comes_to_the_same_weights_and_repeats_itself_to_the_bit(tmp_path: Path) -> None:
    """With two threads, dropout, and a stop on the way. The batch is so large that threads share the work."""
    ids = np.random.default_rng(0).integers(20, size=5000).astype(np.uint8)

    def make(compile_: bool, dropout: float) -> Trainer:
        torch.manual_seed(0)
        model = GPT(TINY.replace(n_layer=1, n_embd=64, block_size=64, dropout=dropout))
        config = TrainingConfig(max_steps=20, device="cpu", compile=compile_, learning_rate=1e-3)
        return Trainer(model, Batches(ids, 64, 16), config)

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        plain, fast = (weights_after(make(compile_, 0.0)) for compile_ in (False, True))
        whole, first, second = (make(True, 0.2) for _ in range(3))
        for event in first:
            if isinstance(event, Step) and event.step == 7:
                first.stop("enough", interrupted=True)
        save_checkpoint(first, tmp_path, keep=1)
        load_newest_checkpoint(second, tmp_path, pytest.fail)
        assert second.progress.step == 7
        assert same(weights_after(whole), weights_after(second))
    finally:
        torch.set_num_threads(threads)
    for name, weight in plain.items():
        torch.testing.assert_close(fast[name], weight, atol=2e-4, rtol=1e-3, msg=name)


# --- whole runs --------------------------------------------------------------------------------------------------


def test_the_run_folder_has_everything(trained_run: Path) -> None:
    names = {path.name for path in trained_run.iterdir()}
    assert names == {
        *("recipe.toml", "tokenizer.json", "model.safetensors", "checkpoints", "metrics.jsonl"),
        *("summary.json", "summary.md", "curves.png", "samples.txt"),
    }
    rows = read_metrics(trained_run / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert {row["step"] for row in rows if row["val_loss"] is not None} == {4, 8, 12}
    assert set(rows[0]) >= {"step", "tokens", "train_loss", "val_loss", "lr", "grad_norm", "tokens_per_second"}
    assert rows[-1]["tokens"] == 12 * 4 * 16
    summary = json.loads((trained_run / "summary.json").read_text())
    best = min(row["val_loss"] for row in rows if row["val_loss"] is not None)
    assert summary["loss"] == best
    assert summary["bigram"]["loss"] > 0
    assert (trained_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (trained_run / "samples.txt").read_text().count("----- step") == 3
    assert len(list((trained_run / "checkpoints").iterdir())) == 2


def test_the_best_weights_are_those_that_were_scored(trained_run: Path) -> None:
    run = load(trained_run, device="cpu")
    ids = np.array(run.tokenizer.encode(TEXT[int(len(TEXT) * 0.9) :]))
    score = evaluate(run.model, Windows(ids, run.block_size), torch.device("cpu"))
    assert score.loss == pytest.approx(run.summary()["loss"], rel=1e-5)


def test_a_runs_recipe_makes_the_same_run_again(trained_run: Path, tmp_path: Path) -> None:
    session.train(load_recipe(trained_run / "recipe.toml"), tmp_path / "again", QUIET)
    assert same(load_file(trained_run / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors"))
    assert comparable(trained_run) == comparable(tmp_path / "again")


def test_patience(text_file: Path, tmp_path: Path) -> None:
    """A learning rate so high that the model soon gets worse."""
    changes = {"training": {"max_steps": 500, "eval_every": 2, "patience": 2, "learning_rate": 0.3}}
    session.train(recipe_for(text_file, **changes), tmp_path / "run", QUIET)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["stop_reason"] == "no better validation loss in 2 evaluations"
    assert summary["steps"] == summary["best_step"] + 4


def test_a_time_limit_ends_with_a_figure(text_file: Path, tmp_path: Path) -> None:
    changes = {"training": {"max_steps": 10_000, "max_seconds": 1e-9, "eval_every": 5000}}
    session.train(recipe_for(text_file, **changes), tmp_path / "run", QUIET)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 2  # the first says that the time is used up only after it
    assert summary["loss"] > 0
    assert "max_seconds" in summary["stop_reason"]


def test_without_a_validation_split_the_training_text_is_scored(text_file: Path, tmp_path: Path) -> None:
    session.train(recipe_for(text_file, data={"val_fraction": 0.0}), tmp_path / "run", QUIET)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["evaluated_on"] == "the training text"
    assert summary["evaluated_tokens"] == len(TEXT) - 1
    weights = [
        load_file(tmp_path / "run" / name)
        for name in ("model.safetensors", "checkpoints/step-00000030/model.safetensors")
    ]
    assert same(*weights)


def test_epochs_become_steps() -> None:
    batches = Batches(IDS[:81], 8, 4, order="epochs")  # 10 windows
    for epochs, parts, steps in ((1, 1, 2), (2, 1, 5), (4, 2, 5), (0.1, 1, 1)):
        config = TrainingConfig(epochs=epochs, gradient_accumulation=parts)
        assert total_steps(config, batches) == steps
    assert total_steps(TrainingConfig(epochs=100, max_steps=7), batches) == 7


def test_events_can_be_told_apart() -> None:
    kinds = {type(event) for event in make_trainer(validation=True, eval_every=2)}
    assert kinds == {Step, Evaluation, Checkpoint}
    assert Score(1.0, 5).perplexity == pytest.approx(math.e)


@pytest.mark.parametrize(
    ("device", "units", "expected"),
    [("cpu", True, torch.bfloat16), ("cpu", False, torch.float32), ("mps", True, torch.float32)],
)
def test_auto_precision_is_what_the_processor_has_units_for(
    device: str, units: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glassgpt.training.precision._cpu_has_bfloat16", lambda: units)
    assert choose_precision(torch.device(device), "auto") is expected
    assert choose_precision(torch.device(device), "float32") is torch.float32
