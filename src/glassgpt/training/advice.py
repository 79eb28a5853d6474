"""Advice on what to do next: commands that work as printed, in any shell and for any run."""

import re
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from shlex import quote

import torch

from glassgpt.errors import UserError
from glassgpt.generation.text import prompt_ids
from glassgpt.paths import as_word
from glassgpt.recipes import Recipe
from glassgpt.runs import RunFolder
from glassgpt.tokenizers import Tokenizer

MOST_SAMPLE, MOST_CANDIDATES = 1000, 2000  # limits: characters of the sample, words of it tried as a prompt
MOST_CHARACTERS = 20  # limit for a word: a text without spaces is one long word


def command_to_resume(folder: RunFolder) -> str:
    """The command that resumes a run."""
    return f"glassgpt train --resume {as_word(folder.path)}"


def commands_to_try(folder: RunFolder, recipe: Recipe, tokenizer: Tokenizer, sample: str) -> list[str]:
    """Commands to suggest for a finished run.

    Args:
        folder: folder of the run.
        recipe: recipe of the run.
        tokenizer: tokenizer of the run.
        sample: sample from the model, including its prompt.
    """
    run, word = as_word(folder.path), word_to_try(tokenizer, recipe.model.block_size, sample)
    prompt = "" if word is None else f" --prompt {quote(word)}"
    commands = [f"glassgpt generate {run}{prompt}"]
    if prompt and recipe.model.kind == "gpt":
        commands.append(
            f"glassgpt inspect {run}{prompt} --out {_new_folder('inside')}   # attention and more, in a page"
        )
    if recipe.data.val_fraction:
        commands.append(f"glassgpt evaluate {run}")
    return [*commands, "glassgpt train --data my.txt        # your own text"]


def word_to_try(tokenizer: Tokenizer, block_size: int, sample: str) -> str | None:
    """A prompt to try: a word of the sample, or else a character, that decodes to itself; None if there is none."""
    for word in islice(_words(sample[:MOST_SAMPLE]), MOST_CANDIDATES):
        try:
            ids = prompt_ids(tokenizer, word, block_size)
        except UserError:
            continue
        if tokenizer.decode(ids) == word:  # not an unknown word of a word vocabulary
            return word
    return None


def _words(sample: str) -> Iterator[str]:
    word = rf"\w[^\W_]{{0,{MOST_CHARACTERS - 1}}}"
    for pattern in (word, f" {word}", r"\w", r"\S"):  # in a word vocabulary, most words include a leading space
        for found in re.finditer(pattern, sample):
            if found[0].isprintable() and not found[0].startswith("-"):
                yield found[0]


def _new_folder(name: str) -> str:
    """The first of NAME, NAME-2, … that does not exist here."""
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(free for free in names if not Path(free).exists())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python or torch means that memory has run out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and re.search("allocate memory|out of memory", str(error)) is not None


def less_memory(recipe: Recipe, device: torch.device, *, can_resume: bool) -> str:
    """Advice for training that ran out of memory.

    Args:
        recipe: recipe of the run.
        device: device it ran on.
        can_resume: whether the run can be resumed; its batch size can then no longer change.
    """
    training = recipe.training
    activations = "--training.activation-checkpointing true"
    may_checkpoint = recipe.model.kind == "gpt" and not training.activation_checkpointing
    parts = next((n for n in range(2, training.batch_size + 1) if training.batch_size % n == 0), 1)
    new = (
        f"use --training.batch-size {training.batch_size // parts} --training.gradient-accumulation "
        f"{training.gradient_accumulation * parts}, for the same number of tokens per step"
        if parts > 1
        else "use a smaller --model.block-size or --model.n-embd"
    )
    if not can_resume:
        return f"{device} ran out of memory: " + (f"use {activations}, or " if may_checkpoint else "") + new
    this = f"resume this run with {activations}" if may_checkpoint else "resume this run on a machine with more memory"
    return f"{device} ran out of memory: {this}; for a new run, {new}"
