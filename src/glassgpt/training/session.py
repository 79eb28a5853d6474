"""A whole run: from a recipe to a finished run folder, and from an interrupted one on."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from rich.console import Console

from glassgpt.data.batches import Batches
from glassgpt.data.opening import open_tokens, standard_input
from glassgpt.data.sources import STDIN, absolute_sources
from glassgpt.data.tokens import TOKENIZER, Measure, TokenFolder, Tokens, is_token_folder
from glassgpt.errors import UserError
from glassgpt.files import read_json, remove_leftovers
from glassgpt.generation.text import prompt_ids
from glassgpt.model import make_model
from glassgpt.recipes import Recipe, merge, save_recipe
from glassgpt.runs import RunFolder, load_tensors
from glassgpt.tokenizers import Tokenizer, TokenizerConfig
from glassgpt.training import report
from glassgpt.training.baseline import bigram_score
from glassgpt.training.checkpoints import load_newest_checkpoint
from glassgpt.training.evaluation import Score, evaluate, evaluation_windows
from glassgpt.training.listeners import MetricsFile, Samples, keep_best_weights, save_checkpoints, stop_early
from glassgpt.training.terminal import Terminal
from glassgpt.training.trainer import Trainer

FIXED_FIELDS = (  # they decide which windows a step sees
    *(f"training.{field}" for field in ("seed", "batch_size", "gradient_accumulation")),
    *(
        f"data.{field}"
        for field in ("sha256", "val_fraction", "text_field", "separator", "cross_documents", "order", "stride")
    ),
)


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


def train(recipe: Recipe, out: Path, console: Console) -> bool:
    """Train a new model and write its run folder.

    Args:
        recipe: what to train.
        out: the run folder to make.
        console: where to show it.

    Returns:
        True if it reached its end, False if it was interrupted; either way everything is saved.

    Raises:
        UserError: something about the recipe, the text, the device or the folder is wrong; nothing was written then.
    """
    folder = RunFolder(out)
    folder.check_free()
    with standard_input(recipe.data.source) as stdin:
        prepared = prepare(recipe, stdin)
        trainer = make_trainer(prepared)
        folder.create(prepared.recipe, prepared.tokenizer, stdin)
    return _run(trainer, prepared, folder, console)


def resume(out: Path, overrides: Mapping[str, Mapping[str, Any]], console: Console) -> bool:
    """Go on with an interrupted run, or with a finished one that is given more steps. Returns as `train`.

    Raises:
        UserError: the folder is no run folder or damaged, its text has changed, a field was changed that must not be,
            or the run is finished.
    """
    folder = RunFolder(out)
    old = folder.read_recipe()
    recipe = _changed_recipe(old, overrides)
    tokenizer = folder.read_tokenizer(recipe)
    prepared = _split(recipe, tokenizer, folder.open_tokens(recipe, tokenizer))
    trainer = make_trainer(prepared)
    load_newest_checkpoint(
        trainer,
        folder.checkpoints,
        lambda message: console.print(f"warning: {message}", markup=False, highlight=False, soft_wrap=True),
    )
    step = trainer.progress.step
    if step >= trainer.total_steps and folder.summary.exists() and _summarised_steps(folder) == step:
        raise UserError(
            f"{out}: finished at step {step:,}: to go further, say so, as in --training.max-steps {2 * step}"
        )
    remove_leftovers(out)
    if recipe != old:
        save_recipe(recipe, folder.recipe)
    console.print(f"resuming {out} at step {step:,}", highlight=False, markup=False, soft_wrap=True)
    return _run(trainer, prepared, folder, console)


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
    prompt = recipe.sampling.prompt
    if prompt is None:
        beginning = tokenizer.decode(tokens.split("train").ids[:10_000].tolist())
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
        "sampling": {"prompt": prompt},
    }
    return _split(Recipe.model_validate(merge(recipe.model_dump(), changes)), tokenizer, tokens)


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
    file = config.file and str(Path(config.file).expanduser().resolve())
    if is_token_folder(sources[0]):
        file = str(Path(sources[0]) / TOKENIZER)
    known = {"file": file, "fingerprint": tokenizer.fingerprint}
    return known | ({"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size} if file else {})


def _split(recipe: Recipe, tokenizer: Tokenizer, tokens: TokenFolder) -> Prepared:
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
        UserError: the text is shorter than a window, or the device is not there.
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
    torch.manual_seed(config.seed)
    return Trainer(make_model(recipe.model), batches, config, validation)


def _run(trainer: Trainer, prepared: Prepared, folder: RunFolder, console: Console) -> bool:
    """The loop with all that listens to it, then the summary."""
    recipe = prepared.recipe
    samples = Samples(trainer, folder, prepared.tokenizer, recipe.sampling, recipe.model.block_size)
    judged = trainer.validation or evaluation_windows(prepared.judged, recipe)
    baseline = bigram_score(prepared.train.ids, judged, prepared.tokenizer.vocab_size)
    report.print_header(console, recipe, trainer, folder)
    with ExitStack() as stack:
        metrics = MetricsFile(
            folder,
            prepared.measure,
            prepared.train.bytes_per_token,
            recipe.training.log_every,
            trainer.progress.step,
        )
        stack.callback(metrics.close)
        terminal = stack.enter_context(Terminal(trainer, console, prepared.measure))
        stack.enter_context(_stopping_on_interrupt(trainer, terminal.note))
        listeners = (
            metrics,
            samples,  # before anything is saved: a model that cannot write has diverged
            keep_best_weights(trainer, folder),
            save_checkpoints(trainer, folder),
            stop_early(trainer),
            terminal,
        )
        try:
            for event in trainer:
                for listener in listeners:
                    listener(event)
        except OSError as error:
            raise UserError(f"{folder.path}: {error.strerror or error}: what was saved before is as it was") from None
        except torch.OutOfMemoryError:
            raise UserError(
                f"{trainer.device} ran out of memory: halve --training.batch-size and double "
                "--training.gradient-accumulation, which trains the same"
            ) from None
    if trainer.interrupted and trainer.progress.step < trainer.total_steps:
        console.print(f"stopped at step {trainer.progress.step:,}, everything saved; to go on:", highlight=False)
        console.print(
            f"  glassgpt train --resume {quote(str(folder.path))}", highlight=False, markup=False, soft_wrap=True
        )
        return False
    trainer.model.load_state_dict(load_tensors(folder.weights))
    best = trainer.progress.best_loss
    score = evaluate(trainer.model, judged, trainer.device) if best is None else Score(best, judged.tokens)
    report.write_summary(folder, recipe, trainer, score, baseline, prepared.measure, prepared.train)
    report.print_result(console, folder, samples.latest)
    return True


def _summarised_steps(folder: RunFolder) -> object:
    return read_json(folder.summary, "a run's summary").get("steps")


def _changed_recipe(old: Recipe, overrides: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The run's recipe with some fields changed, if they may be.

    Raises:
        UserError: the change would make it another run.
    """
    new = Recipe.parse(merge(old.model_dump(exclude_none=True), overrides))
    if STDIN in new.data.source and STDIN not in old.data.source:
        raise UserError("--data=-: a run goes on with the text that it has: leave it out")
    new = new.replace(data=new.data.replace(source=absolute_sources(new.data.source)).model_dump())
    for section, fields in overrides.items():
        for field in fields:
            fixed = section in ("model", "tokenizer") or f"{section}.{field}" in FIXED_FIELDS
            if fixed and getattr(getattr(old, section), field) != getattr(getattr(new, section), field):
                raise UserError(f"{section}.{field} cannot change in a run that goes on: begin a new one with --out")
    return new


@contextmanager
def _stopping_on_interrupt(trainer: Trainer, tell: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C, or a request to terminate, ends the loop after the current step; a second one at once."""
    asked = False

    def ask_to_stop(signum: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        if trainer.stop_reason is not None:
            return  # it is ending anyway
        tell("stopping after this step (once more to stop at once, back to the last checkpoint)")
        trainer.stop(f"interrupted by {signal.Signals(signum).name}", interrupted=True)

    try:
        old = {name: signal.signal(name, ask_to_stop) for name in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever runs this handles signals
        yield
        return
    try:
        yield
    finally:
        for name, handler in old.items():
            signal.signal(name, handler)
