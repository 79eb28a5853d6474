"""What is written in a comparison: a model's shape, how many texts at once, how long they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from glassgpt.bench import llama_cpp
from glassgpt.bench.training import THEIRS, import_transformers
from glassgpt.bench.work import SHAPES, find_work
from glassgpt.bench.writers import check_is_gpt2
from glassgpt.errors import UserError
from glassgpt.generation.decoder import Mode, Weights
from glassgpt.model.config import ModelConfig
from glassgpt.model.sizing import sizes
from glassgpt.recipes import merge

OTHERS = (THEIRS, llama_cpp.NAME)
CONTEXTS = {"0.8M": 256, "10.7M": 256, "124M": 1024}  # room for a text; training has shorter ones
SHORT_PROMPT = 16  # tokens, before what is written


@dataclass(frozen=True)
class Writing:
    """What is written in a comparison.

    Attributes:
        name: of the shape or the recipe.
        model: its shape.
        batch: prompts at once, beside one alone; 1: only that.
        prompt_tokens: of the prompt whose reading is timed.
        new_tokens: that are written after a short prompt.
        weights: of glassgpt, and of those that have them too.
        mode: of glassgpt's engine.
        changes: what was asked for beside the shape, as `section.field=value`.
    """

    name: str
    model: ModelConfig
    batch: int = 1
    prompt_tokens: int = 512
    new_tokens: int = 128
    weights: Weights = "float32"
    mode: Mode = "auto"
    changes: tuple[str, ...] = ()

    @property
    def short_prompt(self) -> int:
        """Tokens of the prompt before what is written."""
        return min(SHORT_PROMPT, self.model.block_size // 2)

    @property
    def mean_length(self) -> float:
        """Tokens in the cache when one is written, over the steps after the first."""
        return self.short_prompt + self.new_tokens / 2

    def bytes_per_token(self, weight_bytes: float, cache_bytes: float) -> float:
        """That are read from memory, at least, to write a token of one text alone.

        All weights but the tables in which one row is looked up, and the keys and values so far.

        Args:
            weight_bytes: of an entry of a matrix; norms and biases have 4.
            cache_bytes: of a number in the cache.
        """
        shape, count = self.model, sizes(self.model)
        parts = count.by_part
        tables = parts.get("position embedding", 0) + parts.get("n-gram embeddings", 0)
        tables += 0 if shape.tie_weights else parts["token embedding"]
        matrices = count.flops_per_token_forward - shape.n_layer * 4 * shape.block_size * shape.n_embd
        matrices //= 2  # a multiplication and an addition for each entry
        others = count.parameters - tables - matrices
        cached = 2 * shape.n_layer * shape.kv_heads * shape.head_width * self.mean_length
        return matrices * weight_bytes + 4 * others + cached * cache_bytes

    def __str__(self) -> str:
        model = self.model
        return (
            f"{self.name}: {model.n_layer} layers, {model.n_head} heads, width {model.n_embd}, context "
            f"{model.block_size}, vocabulary {model.vocabulary:,}, {self.weights}"
        )


def find_writing(
    name: str,
    changes: Mapping[str, Mapping[str, Any]],
    *,
    batch: int = 1,
    prompt_tokens: int = 512,
    new_tokens: int = 128,
    weights: Weights = "float32",
    mode: Mode = "auto",
) -> Writing:
    """A shape by name, with GPT-2's architecture and room for a text, or the model of a recipe.

    Of prompts and new tokens as many are taken as fit the context: nothing is cropped in a measurement.

    Args:
        name: one of `SHAPES`, or a recipe by name or file.
        changes: fields of the model, by section.
        batch, prompt_tokens, new_tokens, weights, mode: see `Writing`.

    Raises:
        UserError: there is no such shape or recipe, a field is wrong, or the context has no room.
    """
    other = next((section for section in changes if section != "model"), None)
    if other is not None:
        raise UserError(f"{other}.{next(iter(changes[other]))}: has no say in a measurement of writing: leave it out")
    context = {"model": {"block_size": CONTEXTS[name]}} if name in SHAPES else {}
    work = find_work(name, merge(context, changes))
    if work.model.kind != "gpt" or work.model.block_size < 4:
        raise UserError(f"{name}: its context has no room for a measurement: take another shape")
    found = Writing(work.name, work.model, batch=batch, weights=weights, mode=mode)
    room = work.model.block_size - found.short_prompt
    return Writing(
        work.name,
        work.model,
        batch=batch,
        prompt_tokens=min(prompt_tokens, work.model.block_size - 1),
        new_tokens=min(new_tokens, room),
        weights=weights,
        mode=mode,
        changes=tuple(f"model.{key}={value}" for key, value in changes.get("model", {}).items()),
    )


def check_writing(writing: Writing, against: Sequence[str], device: torch.device) -> None:
    """That this can be measured here, before any work.

    Raises:
        UserError: a package is not installed, or one of the others cannot do this.
    """
    unknown = next((name for name in against if name not in OTHERS), None)
    if unknown is not None:
        raise UserError(f"--against {unknown}: {' or '.join(OTHERS)}, or both with a comma between")
    if against:
        check_is_gpt2(writing.model)
    if THEIRS in against:
        import_transformers()
    if llama_cpp.NAME in against:
        llama_cpp.import_llama_cpp()
        llama_cpp.check_fits_llama_cpp(writing.model.n_embd, writing.weights, device)
