"""A GPT you can see through.

    import glassgpt

    run = glassgpt.load("runs/default")
    print(run.generate("The "))

Importing this package does nothing: no logging, no device, no torch. Names are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassgpt.errors import UserError
    from glassgpt.inspection.capture import capture
    from glassgpt.inspection.report import inspect_run
    from glassgpt.model import ModelConfig, make_model
    from glassgpt.recipes import Recipe, TrainingConfig, load_recipe
    from glassgpt.runs import Run, load
    from glassgpt.training.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "ModelConfig",
    "Recipe",
    "Run",
    "Trainer",
    "TrainingConfig",
    "UserError",
    "capture",
    "inspect_run",
    "load",
    "load_recipe",
    "make_model",
]

_HOMES = {
    "ModelConfig": "glassgpt.model",
    "Recipe": "glassgpt.recipes",
    "Run": "glassgpt.runs",
    "Trainer": "glassgpt.training.trainer",
    "TrainingConfig": "glassgpt.recipes",
    "UserError": "glassgpt.errors",
    "capture": "glassgpt.inspection.capture",
    "inspect_run": "glassgpt.inspection.report",
    "load": "glassgpt.runs",
    "load_recipe": "glassgpt.recipes",
    "make_model": "glassgpt.model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'glassgpt' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
