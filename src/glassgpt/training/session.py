"""A whole run: from a recipe to a finished run folder, and from an interrupted one on."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from glob import glob
from pathlib import Path
from typing import Any

from rich.console import Console

from glassgpt.data.opening import standard_input
from glassgpt.data.tokens import TokenFolder
from glassgpt.errors import DamagedError, UserError, printable
from glassgpt.files import remove_folder, remove_leftovers
from glassgpt.reading import read_json_lines
from glassgpt.recipes import Recipe, recipe_text, save_recipe
from glassgpt.runs import RunFolder, read_summary
from glassgpt.runs.schemas import MetricsRow
from glassgpt.tensor_files import load_tensors
from glassgpt.tokenizers import Tokenizer
from glassgpt.training import report
from glassgpt.training.advice import command_to_resume, is_out_of_memory, less_memory
from glassgpt.training.baseline import bigram_score
from glassgpt.training.changes import changed_recipe, describe_changes
from glassgpt.training.checkpoints import (
    advice_to_begin_anew,
    list_checkpoints,
    load_newest_checkpoint,
    prune_checkpoints,
    recipe_of_newest,
    restore_best_weights,
)
from glassgpt.training.evaluation import Score, evaluate, evaluation_windows
from glassgpt.training.history import read_history
from glassgpt.training.interrupts import stopping_on_interrupt
from glassgpt.training.listeners import Samples, check_folder, keep_best_weights, save_checkpoints, stop_early
from glassgpt.training.row_files import GradientsFile, MetricsFile
from glassgpt.training.setup import Prepared, make_trainer, prepare, split_text
from glassgpt.training.terminal import Terminal
from glassgpt.training.trackers import Trackers, require_trackers
from glassgpt.training.trainer import DivergedError, Trainer


def train(recipe: Recipe, out: Path | RunFolder, console: Console) -> bool:
    """Train a new model and write its run folder.

    Args:
        recipe: what to train.
        out: the run folder to make, or one that `runs.reserve` holds.
        console: where to show it.

    Returns:
        True if it reached its end, False if it was interrupted; either way everything is saved.

    Raises:
        UserError: something about the recipe, the text, the device or the folder is wrong; if no step was made, nothing
            is left of the run.
    """
    require_trackers(recipe.training.track)
    folder = out if isinstance(out, RunFolder) else RunFolder(out)
    folder.check_free()
    with folder.locked(), standard_input(recipe.data.source) as stdin:
        prepared = prepare(recipe, stdin)
        trainer = make_trainer(prepared)
        try:
            return _run(
                trainer,
                prepared,
                folder,
                console,
                begin=lambda: folder.create(prepared.recipe, prepared.tokenizer, stdin),
            )
        except Exception:
            if not trainer.progress.step:
                folder.remove()
            raise


def resume(out: Path, overrides: Mapping[str, Mapping[str, Any]], console: Console) -> bool:
    """Go on with an interrupted run, or with a finished one that is given more steps. Returns as `train`.

    Raises:
        UserError: the folder is no run folder or damaged, its text has changed, a field was changed that must not be,
            or the run is finished, and its best weights are there. What is in the folder is as it was then.
    """
    folder = RunFolder(out)
    old = folder.read_recipe()

    def say(line: str) -> None:
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    with folder.locked():
        recipe = changed_recipe(old, overrides)
        recipe_text(recipe)  # that it can be saved
        require_trackers(recipe.training.track)
        made_with = recipe_of_newest(folder.checkpoints) or old.model_dump(mode="json")
        changes = describe_changes(made_with, recipe.model_dump(mode="json"))
        _check_checkpoints(folder)
        tokenizer = folder.read_tokenizer(recipe)
        prepared = split_text(recipe, tokenizer, _open_text(folder, recipe, tokenizer))
        trainer = make_trainer(prepared)
        damaged = load_newest_checkpoint(trainer, folder.checkpoints, lambda message: say(f"warning: {message}"))
        brought_back = restore_best_weights(trainer, folder.checkpoints, folder.weights)
        if brought_back is not None:
            say(f"{folder.weights}: brought back from {brought_back.name}")
        if advice := _advice_if_finished(trainer, folder):
            if brought_back is not None:
                return True  # which may be all that was wanted
            raise UserError(f"{out}: finished at step {trainer.progress.step:,}: to go further, say so, as in {advice}")

        def begin() -> None:
            for path in damaged:
                remove_folder(path)  # the run passes there again
            remove_leftovers(folder.path)
            prune_checkpoints(trainer, folder.checkpoints, recipe.training.keep_checkpoints)
            say(f"resuming {out} at step {trainer.progress.step:,}")
            for line in changes:
                say(f"  {line}")

        return _run(trainer, prepared, folder, console, begin=begin)


def _open_text(folder: RunFolder, recipe: Recipe, tokenizer: Tokenizer) -> TokenFolder:
    """A run's text in tokens.

    Raises:
        UserError: it is gone or has changed; says how to name it where it was moved to.
    """
    try:
        return folder.open_tokens(recipe, tokenizer)
    except UserError as error:
        files = [name for name in recipe.data.source if Path(name).is_absolute()]
        if all(os.path.lexists(name) or glob(name) for name in files):  # noqa: PTH207 - it may be a pattern
            raise
        raise UserError(f"{error}: if it was moved, resume with --data and its new name") from None


def _check_checkpoints(folder: RunFolder) -> None:
    """Make sure that a run that had checkpoints still has one: to begin again would overwrite the rest of it.

    The first one follows the first evaluation: a run that was killed before it has no metrics beyond that.

    Raises:
        UserError: they are gone.
    """
    if list_checkpoints(folder.checkpoints):
        return
    rows = read_json_lines(folder.metrics, "metrics", MetricsRow)
    evaluated = [row for row in rows if row and row.get("val_loss") is not None]
    went_on = bool(evaluated) and rows[-1] is not evaluated[0]
    is_cut = not folder.checkpoints.is_dir() and (folder.weights.exists() or bool(rows))
    if went_on or is_cut or folder.summary.exists():
        raise UserError(f"{folder.checkpoints}: the checkpoints are gone: {advice_to_begin_anew(folder.path)}")


def _advice_if_finished(trainer: Trainer, folder: RunFolder) -> str | None:
    """How to go further with a run that has ended, with all that belongs to its end; None if there is more to do."""
    progress, patience = trainer.progress, trainer.config.patience
    step = progress.step
    try:
        summary = read_summary(folder)
    except DamagedError:  # it is written again at the end
        return None
    if summary is None or summary["steps"] != step:
        return None
    if step >= trainer.total_steps:
        return f"--training.max-steps {2 * step}"
    if patience is not None and progress.without_improvement >= patience:
        return f"--training.patience {2 * patience}"
    return None


def _run(trainer: Trainer, prepared: Prepared, folder: RunFolder, console: Console, begin: Callable[[], None]) -> bool:
    """The loop with all that listens to it, then the summary. `begin`: writes what is to be there before the loop.

    Nothing is written before all that can be refused has been checked.
    """
    recipe, training = prepared.recipe, prepared.recipe.training
    history = read_history(folder, trainer.progress, training.log_every, training.watch_gradients)
    judged = trainer.validation or evaluation_windows(prepared.judged, recipe)
    baseline = bigram_score(prepared.train.ids, judged, prepared.tokenizer.vocab_size)
    begin()
    samples = Samples(trainer, folder, prepared.tokenizer, recipe.sampling, recipe.model.block_size, history.samples)
    report.print_header(console, recipe, trainer, folder)
    with ExitStack() as stack:
        terminal = Terminal(trainer, console, prepared.measure, folder.path)
        also = stack.enter_context(Trackers(recipe, folder, history.metrics, terminal.note))
        bytes_per_token = prepared.train.bytes_per_token
        metrics = MetricsFile(folder, prepared.measure, bytes_per_token, training.log_every, history.metrics, also)
        stack.callback(metrics.close)
        gradients = GradientsFile(folder, training.watch_gradients is not None, history.gradients)
        stack.callback(gradients.close)
        if folder.read_recipe() != recipe:
            save_recipe(recipe, folder.recipe)  # last: what is refused changes no run
        stack.enter_context(terminal)
        stack.enter_context(stopping_on_interrupt(trainer, terminal.note))
        listeners = (
            check_folder(folder),
            metrics,
            gradients,
            samples,  # before anything is saved: a model that cannot write has diverged
            keep_best_weights(trainer, folder),
            save_checkpoints(trainer, folder, recipe),
            stop_early(trainer),
            terminal,
        )
        with _explaining(trainer, recipe, folder, console):
            for event in trainer:
                for listener in listeners:
                    listener(event)
    if trainer.interrupted and trainer.progress.step < trainer.total_steps:
        _print_command(console, folder, f"stopped at step {trainer.progress.step:,}, everything saved; to resume:")
        return False
    folder.check_there()
    restore_best_weights(trainer, folder.checkpoints, folder.weights)  # someone may have removed them
    trainer.model.load_state_dict(load_tensors(folder.weights))
    best = trainer.progress.best_loss
    score = evaluate(trainer.model, judged, trainer.device) if best is None else Score(best, judged.tokens)
    summary = report.write_summary(folder, recipe, trainer, score, baseline, prepared.measure, prepared.train)
    report.print_result(console, recipe, folder, summary, prepared.tokenizer, samples.latest)
    return True


@contextmanager
def _explaining(trainer: Trainer, recipe: Recipe, folder: RunFolder, console: Console) -> Iterator[None]:
    """Say what ended a training, and what to do about it."""
    try:
        yield
    except OSError:
        folder.check_there()
        raise
    except KeyboardInterrupt:
        _print_command(console, folder, "stopped at once, back to the last checkpoint; to resume:")
        raise
    except DivergedError as error:
        if list_checkpoints(folder.checkpoints):
            rest = "what was saved before is as it was, and --resume goes on from there"
        else:
            rest = "nothing was saved yet, and --resume begins again at the first step"
        raise UserError(f"{error}; {rest}") from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(less_memory(recipe, trainer.device, can_resume=trainer.progress.step > 0)) from None


def _print_command(console: Console, folder: RunFolder, why: str) -> None:
    console.print(why, highlight=False)
    console.print(f"  {command_to_resume(folder)}", highlight=False, markup=False, soft_wrap=True)
