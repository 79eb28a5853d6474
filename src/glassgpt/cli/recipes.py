"""glassgpt recipes"""


def recipes() -> None:
    """List the recipes that come with glassgpt."""
    from rich.console import Console
    from rich.table import Table

    from glassgpt.recipes import load_recipe, recipe_names

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("recipe", no_wrap=True, style="cyan")
    table.add_column("what it is")
    for name in recipe_names():
        table.add_row(name, load_recipe(name).description)
    console = Console()
    console.print(table)
    console.print("\nTrain one with [bold]glassgpt train NAME[/]; see its size with [bold]glassgpt info NAME[/].")
