"""Gradient flow: figures equal to those by hand, training unchanged to the bit, nothing lost or twice after a kill."""

import copy
import json
import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.data.batches import Batches
from glassgpt.errors import UserError
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.recipes import TrainingConfig
from glassgpt.training import flow_drawing, session
from glassgpt.training.events import Step
from glassgpt.training.flow import Flow, part_of
from glassgpt.training.trainer import Trainer
from tests.conftest import SMALL, call
from tests.small_runs import QUIET, Killed, StopAt, comparable, recipe_for, same

TINY = ModelConfig(
    vocab_size=11, n_layer=2, n_head=2, n_embd=16, block_size=8, activation="relu", qk_norm=True, tie_weights=False
)
IDS = np.random.default_rng(0).integers(11, size=500).astype(np.uint8)
# By hand: which parameters make up which part.
PARTS = {
    "token_embedding": ["token_embedding.weight"],
    "position_embedding": ["position_embedding.weight"],
    **{
        f"blocks.{layer}.{part}": [f"blocks.{layer}.{part}.{kind}" for kind in ("weight", "bias")]
        for layer in (0, 1)
        for part in ("attn.qkv", "attn.proj", "mlp.fc", "mlp.proj")
    },
    **{
        f"blocks.{layer}.norms": [
            *(f"blocks.{layer}.norm_{number}.{kind}" for number in (1, 2) for kind in ("weight", "bias")),
            *(f"blocks.{layer}.attn.{name}_norm.weight" for name in "qk"),
        ]
        for layer in (0, 1)
    },
    "final_norm": ["final_norm.weight", "final_norm.bias"],
    "lm_head": ["lm_head.weight"],
}


def trainer_of(model: nn.Module, batch_size: int = 4, **settings) -> Trainer:
    config = TrainingConfig(**{"max_steps": 3, "watch_gradients": 1, "device": "cpu", **settings})
    return Trainer(model, Batches(IDS, TINY.block_size, batch_size), config)


def flows(trainer: Iterable[object]) -> list[Flow | None]:
    return [event.flow for event in trainer if isinstance(event, Step)]


def watched(trainer: Iterable[object]) -> list[Flow]:
    return [flow for flow in flows(trainer) if flow is not None]


def length(tensors: Iterable[Tensor]) -> float:
    return torch.cat([tensor.detach().flatten().double() for tensor in tensors]).norm().item()


# --- by hand -----------------------------------------------------------------------------------------------------


def test_norms_and_updates_equal_those_by_hand() -> None:
    """Three steps with torch's own AdamW, gradients clipped so that a look after clipping would show."""
    model = GPT(TINY)
    hand = copy.deepcopy(model)
    trainer = trainer_of(model, grad_clip=0.05, schedule="constant", learning_rate=0.01, weight_decay=0.3)
    seen = watched(trainer)
    named = dict(hand.named_parameters())
    assert sorted(name for names in PARTS.values() for name in names) == sorted(named)
    groups = [{"params": [p for p in named.values() if (p.dim() >= 2) == decays]} for decays in (True, False)]
    groups[1]["weight_decay"] = 0.0  # type: ignore[assignment]
    optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99), weight_decay=0.3)
    batches = Batches(IDS, TINY.block_size, 4)
    for step, flow in enumerate(seen):
        inputs, targets = batches(step)
        optimizer.zero_grad()
        F.cross_entropy(hand(inputs).flatten(0, 1), targets.flatten()).backward()
        gradients = {name: p.grad.clone() for name, p in named.items() if p.grad is not None}
        before = {name: p.detach().clone() for name, p in named.items()}
        nn.utils.clip_grad_norm_(hand.parameters(), 0.05)
        optimizer.step()
        assert set(flow.parts) == set(PARTS)
        for part, names in PARTS.items():
            by_hand = length(gradients[name] for name in names), length(before[name] for name in names)
            update = length(named[name] - before[name] for name in names)
            figures = flow.parts[part]
            assert (figures.grad_norm, figures.weight_norm) == pytest.approx(by_hand, rel=1e-4), (step, part)
            assert figures.update_ratio == pytest.approx(update / by_hand[1], rel=1e-3), (step, part)
    assert length(gradients.values()) > 0.05


def test_activations_equal_those_by_hand() -> None:
    """Some units never fire, and some not in each part of the step; the parts are taken as one batch."""
    model = GPT(TINY.replace(qk_norm=False))
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.fc.bias[3] = -100.0
            block.mlp.fc.bias[4] = 1e-4
            block.mlp.fc.weight[4] = 0.0
            block.mlp.fc.bias[8:] = -0.1
    hand = copy.deepcopy(model)
    (flow,) = watched(trainer_of(model, batch_size=2, max_steps=1, gradient_accumulation=3))
    assert list(flow.blocks) == ["blocks.0", "blocks.1"]
    batches = Batches(IDS, TINY.block_size, 2)
    inputs = [batches(part)[0] for part in range(3)]
    ids = torch.cat(inputs)
    with torch.no_grad():
        x = hand.token_embedding(ids) + hand.position_embedding.weight
        for layer, block in enumerate(hand.blocks):
            x = x + block.attn(block.norm_1(x), layer)
            hidden = torch.relu(block.mlp.fc(block.norm_2(x)))
            x = x + block.mlp.proj(hidden)
            figures = flow.blocks[f"blocks.{layer}"]
            assert figures.mean == pytest.approx(hidden.mean().item(), rel=1e-4)
            assert figures.std == pytest.approx(hidden.std(correction=0).item(), rel=1e-4)
            assert figures.residual_mean == pytest.approx(x.mean().item(), rel=1e-3, abs=1e-6)
            assert figures.residual_std == pytest.approx(x.std(correction=0).item(), rel=1e-4)
            silent, silent_at_last = ((h.flatten(0, 1) == 0).all(0).float().mean().item() for h in (hidden, hidden[4:]))
            assert figures.dead == pytest.approx(silent)
            assert 0 < silent < silent_at_last
            small = [h.abs() < 0.01 * h.square().mean().sqrt() for h in hidden.split(2)]
            assert figures.tiny == pytest.approx(torch.cat(small).float().mean().item(), rel=1e-4)


@pytest.mark.parametrize("settings", [{}, {"precision": "bfloat16"}, {"activation_checkpointing": True}], ids=str)
def test_activations_are_those_of_the_step_itself(settings: dict) -> None:
    """With dropout: what the blocks are seen to give out when the step is made."""
    model = GPT(TINY.replace(dropout=0.5))
    trainer = trainer_of(model, gradient_accumulation=2, **settings)
    given: list[Tensor] = []
    model.blocks[1].register_forward_hook(lambda _block, _args, out: given.append(out.detach().clone()))
    for event in trainer:
        if isinstance(event, Step):
            assert event.flow is not None
            figures = event.flow.blocks["blocks.1"]
            made = torch.cat(given[:2]).float()  # the first two passes; then those that look
            assert figures.residual_std == pytest.approx(made.std(correction=0).item(), rel=1e-5)
            assert figures.residual_mean == pytest.approx(made.mean().item(), rel=1e-4, abs=1e-7)
            given.clear()


def test_muon_and_tied_weights_are_watched() -> None:
    model = GPT(TINY.replace(tie_weights=True, activation="swiglu", layer_scale=0.1, ngrams=2, zero_init=True))
    first, second = watched(trainer_of(model, optimizer="muon", max_steps=2))
    kinds = {name.removeprefix("blocks.0.") for name in first.parts}
    assert {"mlp.gate", "layer_scale", "ngram_embedding", "norms"} <= kinds
    assert "lm_head" not in kinds
    assert math.isnan(first.parts["blocks.0.mlp.proj"].update_ratio)  # it began as zeros
    assert first.as_json()["parts"]["blocks.0.mlp.proj"]["update_ratio"] is None
    assert second.parts["blocks.0.mlp.proj"].update_ratio > 0


def test_a_step_that_is_skipped_has_no_gradient_and_moves_nothing() -> None:
    trainer = trainer_of(model := GPT(TINY), max_steps=1)
    model.lm_head.weight.register_hook(lambda gradient: gradient * math.inf)
    (flow,) = watched(trainer)
    assert flow.as_json()["parts"]["lm_head"]["grad_norm"] is None
    assert {part.update_ratio for part in flow.parts.values()} == {0.0}


def test_any_module_can_be_watched_every_so_many_steps() -> None:
    model = nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 11))
    seen = flows(trainer_of(model, max_steps=7, watch_gradients=3))
    assert [flow is not None for flow in seen] == [False, False, True, False, False, True, False]
    assert seen[2] is not None
    assert list(seen[2].parts) == ["0", "1"]
    assert seen[2].blocks == {}


def test_parts_have_the_names_of_their_modules() -> None:
    assert part_of("blocks.10.attn.k_norm.weight") == "blocks.10.norms"
    assert part_of("ngram_embedding.tables.1.weight") == "ngram_embedding"
    assert part_of("weight") == "weight"


def test_hooks_do_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GPT(TINY)
    watched(trainer_of(model))

    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())

    assert hooks() == 0
    monkeypatch.setattr("glassgpt.training.flow.torch.var_mean", lambda *_args, **_named: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        watched(trainer_of(model))
    assert hooks() == 0


# --- whole runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{}, {"precision": "bfloat16", "activation_checkpointing": True, "optimizer": "muon"}], ids=str
)
def test_watching_changes_nothing_to_the_bit(settings: dict, text_file: Path, tmp_path: Path) -> None:
    """With dropout and accumulation."""
    for name, every in (("without", None), ("with", 1)):
        recipe = recipe_for(text_file, training={"max_steps": 10, "watch_gradients": every, **settings})
        assert session.train(recipe, tmp_path / name, QUIET)
    without, with_ = tmp_path / "without", tmp_path / "with"
    for file in ("model.safetensors", "optimizer.safetensors"):
        path = f"checkpoints/step-00000010/{file}"
        assert same(load_file(without / path), load_file(with_ / path)), file
    assert comparable(without) == comparable(with_)
    assert (without / "samples.txt").read_bytes() == (with_ / "samples.txt").read_bytes()
    assert not (without / "gradients.jsonl").exists()
    assert steps_of(with_) == list(range(1, 11))


@pytest.mark.usefixtures("own_compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # raised inside torch when it first compiles
def test_a_compiled_model_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced as always, but with no code made of it, which would take long."""
    graphs: list[object] = []
    original = torch.compile

    def backend(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda model: original(model, backend=backend))
    found = []
    for every in (None, 2):
        torch.compiler.reset()
        torch.manual_seed(0)
        model = GPT(TINY.replace(n_layer=1, dropout=0.2))
        seen = watched(trainer_of(model, compile=True, max_steps=5, watch_gradients=every))
        found.append(copy.deepcopy(model.state_dict()))
    assert len(seen) == 2
    assert len(graphs) == 2  # one for each training
    assert same(*found)


def steps_of(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "gradients.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("stops", [[2, 9], [5, 12, 13]], ids=str)
def test_a_run_that_was_stopped_has_the_same_lines(
    stops: list[int], text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(text_file, training={"max_steps": 15, "watch_gradients": 3})
    session.train(recipe, tmp_path / "whole", QUIET)
    StopAt(monkeypatch, stops)
    session.train(recipe, tmp_path / "pieces", QUIET)
    while not session.resume(tmp_path / "pieces", {}, QUIET):
        pass
    assert steps_of(tmp_path / "whole") == list(range(3, 16, 3))
    files = [(tmp_path / run / "gradients.jsonl").read_bytes() for run in ("whole", "pieces")]
    assert files[0] == files[1]


def killed(run: Path, text_file: Path, at: int, **settings) -> None:
    """A run that was killed before the step after `at`, in the middle of a line. It has a checkpoint every 5 steps."""
    original = Trainer._step

    def step(trainer: Trainer) -> Step:
        if trainer.progress.step == at:
            raise Killed  # nothing gets to save anything
        return original(trainer)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "_step", step)
        session.train(recipe_for(text_file, training=settings), run, QUIET)
    if (run / "gradients.jsonl").exists():
        with (run / "gradients.jsonl").open("a") as file:
            file.write('{"step": 8, "par')


def test_a_run_that_was_killed_has_the_same_lines(text_file: Path, tmp_path: Path) -> None:
    session.train(recipe_for(text_file, training={"max_steps": 10, "watch_gradients": 2}), tmp_path / "whole", QUIET)
    killed(tmp_path / "killed", text_file, at=9, max_steps=10, watch_gradients=2)
    assert session.resume(tmp_path / "killed", {}, QUIET)
    files = [(tmp_path / run / "gradients.jsonl").read_bytes() for run in ("whole", "killed")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("before", "after", "steps"),
    [
        (2, "5", [2, 4, 6, 10, 15]),
        (2, None, [2, 4, 6]),  # what had gone too far is cut off all the same
        (None, "3", [9, 12, 15]),
    ],
)
def test_watching_may_begin_change_and_end_in_a_run_that_goes_on(
    before: int | None, after: str | None, steps: list[int], text_file: Path, tmp_path: Path
) -> None:
    killed(tmp_path / "run", text_file, at=9, max_steps=15, watch_gradients=before)  # its last checkpoint is at 7
    assert session.resume(tmp_path / "run", {"training": {"watch_gradients": after}}, QUIET)
    assert steps_of(tmp_path / "run") == steps


# --- the command line and the picture ------------------------------------------------------------------------------


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    copied = tmp_path / "run"
    shutil.copytree(trained_run, copied)
    return copied


def write_flow(run: Path, steps: Iterable[int], layers: int = 2) -> None:
    """Made up, so that each cell is another."""
    lines = []
    for step in steps:
        parts = ["token_embedding", *(f"blocks.{i}.{kind}" for i in range(layers) for kind in ("norms", "mlp.fc"))]
        figures = {
            part: {"grad_norm": step + number / 10, "weight_norm": 1.0, "update_ratio": None if number == 1 else 1e-3}
            for number, part in enumerate(parts)
        }
        keys = ("mean", "std", "tiny", "dead", "residual_mean", "residual_std")
        blocks = {f"blocks.{i}": dict.fromkeys(keys, 0.1 * (i + 1)) for i in range(layers)}
        lines.append(json.dumps({"step": step, "parts": figures, "blocks": blocks}) + "\n")
    (run / "gradients.jsonl").write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    monkeypatch.setattr(flow_drawing, "save_figure", lambda figure, _path: figures.append(figure))
    return figures


def test_from_the_command_line(text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert call("train", "--data", text_file, "--out", run, *SMALL, "--watch-gradients", 4) == 0
    assert steps_of(run) == [4, 8, 12]
    assert call("plot", run, "--gradients") == 0
    assert "gradients.png" in capsys.readouterr().out
    first = (run / "gradients.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert call("plot", run, "--gradients", "--out", tmp_path / "flow.svg") == 0
    assert "<svg" in (tmp_path / "flow.svg").read_text(encoding="utf-8")
    more = ("--training.max-steps", 16)
    assert call("train", "--resume", run, "--watch-gradients", "none", *more) == 0
    assert steps_of(run) == [4, 8, 12]
    assert call("plot", run, "--gradients") == 0
    assert (run / "gradients.png").read_bytes() == first  # the same lines give the same bytes


def test_each_cell_shows_its_figure(run: Path, drawn: list[Figure]) -> None:
    write_flow(run, [10, 20, 30])
    assert call("plot", run, "--gradients") == 0
    panels = {axes.get_title("left"): axes for axes in drawn[0].axes}
    gradients = next(axes for title, axes in panels.items() if "gradient" in title)
    (mesh,) = gradients.collections
    # All of a kind together: the embedding (0), the norms of both layers (1, 3), the MLPs' first matrices (2, 4).
    by_hand = [[step + part / 10 for step in (10, 20, 30)] for part in (0, 1, 3, 2, 4)]
    np.testing.assert_allclose(mesh.get_array(), by_hand)
    assert [label.get_text() for label in gradients.get_yticklabels()] == ["token_embedding", "norms", "mlp.fc"]
    assert [label.get_text() for label in gradients.get_yticklabels(minor=True)] == ["", "0", "1", "0", "1"]
    updates = next(axes for title, axes in panels.items() if "update" in title)
    hidden = np.ma.getmaskarray(updates.collections[0].get_array())
    assert hidden.any(axis=1).tolist() == [False, True, False, False, False]
    assert "grey" in drawn[0].get_supxlabel()
    assert len(drawn[0].axes) == 18  # nine heatmaps, each with its scale


@pytest.mark.parametrize(
    ("steps", "edges", "columns"),
    [
        ([10, 20, 30], [0, 10, 20, 30], [0, 1, 2]),
        ([7], [0, 7], [0]),
        ([500, 510, 520], [490, 500, 510, 520], [0, 1, 2]),  # watched from there on
        ([10, 20, 520, 530], [0, 10, 20, 510, 520, 530], [0, 1, 3, 4]),  # not watched in between
        ([10, 20, 120, 220], [0, 10, 20, 120, 220], [0, 1, 2, 3]),  # less often
        ([100, 200, 210], [0, 100, 200, 210], [0, 1, 2]),  # more often
    ],
)
def test_columns_stand_where_their_steps_are(steps: list[int], edges: list[float], columns: list[int]) -> None:
    assert flow_drawing._columns(steps) == (edges, columns)


@pytest.mark.parametrize("layers", [0, 1, 48])
def test_any_number_of_layers_can_be_drawn(layers: int, run: Path) -> None:
    write_flow(run, [1], layers)
    assert call("plot", run, "--gradients") == 0
    assert (run / "gradients.png").stat().st_size > 1000


BAD: list[tuple[str, Callable[[Path], list[object]], str]] = [
    ("nothing watched", lambda run: ["plot", run, "--gradients"], "--watch-gradients"),
    ("two runs", lambda run: ["plot", run, run, "--gradients"], "draws one run"),
    ("curves' options", lambda run: ["plot", run, "--gradients", "--log-y"], "draws one run"),
    ("no run", lambda run: ["plot", run / "no", "--gradients"], "no such run folder"),
    ("another kind of picture", lambda run: ["plot", run, "--gradients", "--out", run / "a.gif"], ".png or .svg"),
    ("every 0 steps", lambda run: ["train", "--resume", run, "--watch-gradients", 0], "training.watch_gradients"),
    ("every so often", lambda run: ["train", "--resume", run, "--watch-gradients", "often"], "watch_gradients"),
]


@pytest.mark.parametrize(("words", "says"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input(
    words: Callable[[Path], list[object]], says: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words(run)) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 3}',
        '{"step": 3, "parts": {"a": 1}, "blocks": {}}',
        '{"step": 3, "parts": {}, "blocks": {}}',
        '{"step": 3, "parts": {"a": {"grad_norm": 1e308}}, "blocks": {}}',
        "nonsense",
    ],
)
def test_a_damaged_line_is_named(line: str, run: Path) -> None:
    write_flow(run, [1, 2])
    with (run / "gradients.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match="line 3"):
        flow_drawing.read_flow(run / "gradients.jsonl")


def test_colours_reach_as_far_as_the_figures_and_no_further_than_can_be_told_apart() -> None:
    log, signed, share = (flow_drawing.Panel("", "", scale) for scale in ("log", "signed", "share"))

    def reach(panel: flow_drawing.Panel, *values: float) -> tuple[float | None, float | None]:
        norm = flow_drawing._norm(panel, np.array(values))
        return norm.vmin, norm.vmax

    assert reach(log, 0.02, 5.0) == (0.02, 5.0)
    assert reach(log, 1e-30, 5.0) == (5e-6, 5.0)  # one layer that gets next to nothing leaves colours for the others
    assert reach(log, 3.0) == (1.5, 6.0)
    assert reach(signed, -0.5, 0.1) == (-0.5, 0.5)  # 0 in the middle
    assert reach(share, 0.2, 0.4) == (0.0, 0.4)
    assert reach(share, 0.0) == (0.0, 0.01)
