"""What a run needs before its first step: a complete recipe, a tokenizer, the text in tokens, a model, a trainer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from glassgpt.data.batches import Batches
from glassgpt.data.opening import open_tokens
from glassgpt.data.sources import absolute_sources
from glassgpt.data.tokens import TOKENIZER, Measure, TokenFolder, Tokens, is_token_folder
from glassgpt.device import choose_device
from glassgpt.errors import UserError
from glassgpt.generation.text import prompt_ids
from glassgpt.model import make_model
from glassgpt.model.sizing import require_memory
from glassgpt.paths import absolute
from glassgpt.recipes import Recipe, TrainingConfig, merge
from glassgpt.threads import settle
from glassgpt.tokenizers import Tokenizer, TokenizerConfig
from glassgpt.training.evaluation import evaluation_windows
from glassgpt.training.trainer import Trainer


@dataclass(frozen=True)
class Prepared:
    """What a run trains on: a complete recipe, its tokenizer, and its text in tokens."""

    recipe: Recipe
    tokenizer: Tokenizer
    train: Tokens
    val: Tokens

    @property
    def judged(self) -> Tokens:
        """What the result is about: the validation text, or the training text where nothing was kept aside."""
        return self.val if len(self.val.ids) else self.train

    @property
    def measure(self) -> Measure:
        """From a loss on it to bits per byte."""
        return self.judged.measure(within_documents=not self.recipe.data.cross_documents)


def prepare(recipe: Recipe, stdin: Path | None = None) -> Prepared:
    """Get the text in tokens, and fill in what the recipe left to the text and its tokenizer.

    Args:
        recipe: what to train.
        stdin: the file that holds what came from standard input.

    Raises:
        UserError: the text cannot be read or is too short, or the tokenizer, the model and the prompt do not fit it.
    """
    tokens = open_tokens(recipe.data, recipe.tokenizer, stdin=stdin)
    tokenizer = tokens.tokenizer
    wanted = recipe.model.vocab_size
    if wanted is not None and wanted < tokenizer.vocab_size:
        raise UserError(
            f"model.vocab_size {wanted} is less than the tokenizer's {tokenizer.vocab_size}: raise it, or leave it out"
        )
    prompt, training_ids = recipe.sampling.prompt, tokens.split("train").ids
    if not len(training_ids):
        raise UserError(f"{', '.join(recipe.data.source)}: too short to train on: take more text")
    if prompt is None:
        beginning = tokenizer.decode(training_ids[:10_000].tolist())
        prompt = "\n" if "\n" in beginning else beginning[:1]
    try:
        prompt_ids(tokenizer, prompt, recipe.model.block_size)
    except UserError as error:
        raise UserError(f"sampling.prompt: {error}") from None
    sources = absolute_sources(recipe.data.source)
    changes = {
        "data": {"source": sources, "sha256": tokens.sha256},
        "tokenizer": _complete_tokenizer(recipe.tokenizer, tokenizer, sources),
        "model": {"vocab_size": wanted or tokenizer.vocab_size},
        "training": {"threads": _threads(recipe.training)},
        "sampling": {"prompt": prompt},
    }
    return split_text(Recipe.parse(merge(recipe.model_dump(), changes)), tokenizer, tokens)


def _threads(config: TrainingConfig) -> int | None:
    """The number of CPU threads to note in the run, since the order of sums depends on it; None on another device."""
    if config.threads is None and choose_device(config.device).type == "cpu":
        return settle().number
    return config.threads


def _complete_tokenizer(config: TokenizerConfig, tokenizer: Tokenizer, sources: Sequence[str]) -> dict[str, Any]:
    """What a run notes of its tokenizer, so that the same one can be made again and known again.

    Raises:
        UserError: it is not the one that the recipe names by its fingerprint.
    """
    if config.fingerprint not in (None, tokenizer.fingerprint):
        raise UserError(
            f"tokenizer.fingerprint: the recipe was made with another tokenizer ({config.fingerprint}) than this one "
            f"({tokenizer.fingerprint}): bring back the old text or file, or give --tokenizer.fingerprint none"
        )
    file = config.file and str(absolute(config.file))
    if is_token_folder(sources[0]):
        file = str(Path(sources[0]) / TOKENIZER)
    known = {"file": file, "fingerprint": tokenizer.fingerprint}
    return known | ({"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size} if file else {})


def split_text(recipe: Recipe, tokenizer: Tokenizer, tokens: TokenFolder) -> Prepared:
    """A run's recipe and tokenizer with its text, in its two parts.

    Raises:
        UserError: the validation split is empty although the recipe wants one.
    """
    prepared = Prepared(recipe, tokenizer, tokens.split("train"), tokens.split("val"))
    if recipe.data.val_fraction and len(prepared.val.ids) < 2:
        raise UserError(
            f"the validation split has {len(prepared.val.ids)} tokens: take more text, or none of it "
            "(--data.val-fraction 0)"
        )
    return prepared


def make_trainer(prepared: Prepared) -> Trainer:
    """A new model of the recipe's shape, and a trainer for it.

    Raises:
        UserError: the text is shorter than a window, the device is not there, or its memory holds no batch.
    """
    recipe = prepared.recipe
    config = recipe.training
    train = prepared.train
    batches = Batches(
        train.ids,
        recipe.model.block_size,
        config.batch_size,
        seed=config.seed,
        order=recipe.data.order,
        stride=recipe.data.stride,
        documents=None if recipe.data.cross_documents else train.documents,
    )
    validation = None
    if len(prepared.val.ids):
        validation = evaluation_windows(prepared.val, recipe, config.eval_tokens)
    if choose_device(config.device).type == "cpu":
        logits = 4 * config.batch_size * recipe.model.block_size * recipe.model.vocabulary
        require_memory(logits, "the logits of a batch (training.batch_size × model.block_size × the vocabulary)")
    torch.manual_seed(config.seed)
    return Trainer(make_model(recipe.model), batches, config, validation)
