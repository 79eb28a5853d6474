"""glassgpt info"""

import json
import os
from difflib import get_close_matches
from typing import Annotated, Any

from cyclopts import Parameter

from glassgpt.cli import lookup
from glassgpt.cli.options import Switch
from glassgpt.errors import UserError, printable, show
from glassgpt.paths import expand


def info(
    what: str,
    /,
    *,
    json_: Annotated[bool, Switch] = False,
    overrides: Annotated[dict[str, dict[str, Any]] | None, Parameter(parse=False)] = None,
) -> None:
    """Show the size and the cost of a run's or a recipe's model.

    Fields of the recipe can be changed by their dotted names to see what that costs, such as --model.n-layer 24.

    Parameters
    ----------
    what
        A run folder, a recipe by name or file, or one of gpt2, gpt2-medium, gpt2-large, gpt2-xl.
    json_
        Print one JSON object.
    """
    from dataclasses import asdict

    from glassgpt.model.sizing import sizes

    config = model_config(what, overrides or {})
    result = sizes(config)
    if json_:
        print(json.dumps({"name": what, **asdict(result), "model": config.model_dump()}))
        return
    from rich.console import Console

    _print_table(Console(), what, config, result)


def model_config(what: str, overrides: dict[str, dict[str, Any]]) -> Any:
    """The shape of a model by any of its names, with its vocabulary filled in."""
    from glassgpt.model.sizing import GPT2_FAMILY
    from glassgpt.recipes import Recipe, load_recipe, merge, recipe_names
    from glassgpt.runs import RunFolder

    other = [f"{section}.{field}" for section, fields in overrides.items() if section != "model" for field in fields]
    if what in GPT2_FAMILY and other:
        raise UserError(f"{other[0]}: {what} is a model alone: only fields of model can change")
    if what in GPT2_FAMILY:
        config = GPT2_FAMILY[what].replace(**overrides.get("model", {}))
    elif lookup.is_run(expand(what)):
        config = Recipe.parse(merge(RunFolder(what).read_recipe().model_dump(exclude_none=True), overrides)).model
    elif what in recipe_names() or lookup.is_recipe_file(expand(what)):
        recipe = load_recipe(what, overrides)
        config = recipe.model
        if config.vocab_size is None:
            from glassgpt.data.vocabulary import vocabulary_size

            config = config.replace(vocab_size=vocabulary_size(recipe.tokenizer, recipe.data))
    else:
        raise _mistake(what, [*recipe_names(), *GPT2_FAMILY])
    return config


def _mistake(what: str, names: list[str]) -> lookup.MistakenWordError:
    """What is wrong with a word that is no run folder, recipe or model, and what was meant."""
    near, found = get_close_matches(what, names, n=1, cutoff=0.6), None
    try:
        lookup.check_run(what)
    except lookup.MistakenWordError as error:
        found = error
    if found is not None and (os.path.lexists(expand(what)) or (found.meant and "/" in what)):
        return found
    known = "" if near else f": known: {', '.join(names)}"
    return lookup.MistakenWordError(f"no run folder, recipe or model {show(what)}{known}", what, meant=near or None)


def _print_table(console: Any, what: str, config: Any, result: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(what)), title_justify="left", title_style="bold", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    for part, count in result.by_part.items():
        table.add_row(part, f"{count:,}", f"{100 * count / result.parameters:.1f} %")
    table.add_section()
    table.add_row("parameters", f"[bold]{result.parameters:,}[/]", "")
    table.add_row("without embeddings", f"{result.parameters_without_embeddings:,}", "")
    table.add_section()
    table.add_row("FLOPs per token, forward", f"{result.flops_per_token_forward:,}", "")
    table.add_row("FLOPs per token, training", f"{result.flops_per_token_training:,}", "")
    table.add_section()
    for name, size in (
        ("weights, float32", result.weight_bytes),
        ("gradients", result.gradient_bytes),
        ("optimizer (AdamW)", result.optimizer_bytes),
        (f"activations of {config.block_size} tokens, at least", result.activation_bytes),
        ("their logits, and the gradient", result.logit_bytes),
        ("[bold]training on one sequence, at least[/]", result.training_bytes),
        (f"cache of {config.block_size} tokens", result.cache_bytes),
    ):
        table.add_row(name, f"{size / 2**20:,.1f} MiB", "")
    console.print(table)
