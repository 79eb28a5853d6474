"""Checks of whole runs: what a device trained is a run folder that any other device reads, and resumes."""

import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from rich.console import Console

from glassgpt.recipes import Recipe, load_recipe
from glassgpt.runs import load
from glassgpt.training import session
from glassgpt.training.evaluation import evaluate_run

from .training import TEXT, relative

SETTINGS: dict[str, Any] = {
    "model": {"n_layer": 2, "n_head": 2, "n_embd": 64, "block_size": 32, "dropout": 0.1},
    "tokenizer": {"kind": "char"},
    "training": {"max_steps": 40, "eval_every": 20, "batch_size": 8, "log_every": 5, "warmup_steps": 5},
    "sampling": {"max_new_tokens": 20, "prompt": "the "},
}


def run_folder(device: torch.device) -> dict[str, Any]:
    """Train here with `auto` for the rest; read, evaluate and write there and on the CPU; resume on the CPU."""
    said = StringIO()
    with TemporaryDirectory() as name, mock.patch.dict(os.environ, {"GLASSGPT_CACHE": name}):
        text, out = Path(name) / "text.txt", Path(name) / "run"
        text.write_text(TEXT, encoding="utf-8")
        recipe = _recipe(text, device)
        assert session.train(recipe, out, Console(file=said)), "stopped before its end"
        here, on_cpu = load(out, device=str(device)), load(out, device="cpu")
        ids = torch.tensor([here.tokenizer.encode("the cat sat on the mat")])
        with torch.no_grad():
            off = relative(here.model(ids.to(device)), on_cpu.model(ids))
        assert off < 1e-4, f"logits of the same weights differ by {off:.2g}"
        scores = [evaluate_run(run)["loss"] for run in (here, on_cpu)]
        assert abs(scores[0] - scores[1]) < 1e-4, f"losses {scores}"
        assert scores[0] < 1.0, f"learned nothing: {scores[0]:.2f}"
        texts = [run.generate("the ", temperature=0, max_new_tokens=20) for run in (here, on_cpu)]
        assert texts[0] == texts[1], f"wrote {texts}"
        changes = {"training": {"max_steps": 60, "device": "cpu", "precision": "float32"}}
        assert session.resume(out, changes, Console(file=said)), "stopped before its end"
        steps = load(out, device="cpu").summary()["steps"]
        assert steps == 60, f"resumed to step {steps}"
    return {"logits": off, "loss": scores[0]}


def _recipe(text: Path, device: torch.device) -> Recipe:
    recipe = load_recipe("default", {**SETTINGS, "data": {"source": [str(text)]}})
    return recipe.replace(training=recipe.training.replace(device=str(device)).model_dump())


CHECKS: dict[str, Callable[[torch.device], dict[str, Any]]] = {"a run folder, here and on the CPU": run_folder}
