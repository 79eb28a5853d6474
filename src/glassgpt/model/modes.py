"""Training mode and evaluation mode, and the way back."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within this context all of the model is in evaluation mode; then each module is in the mode that it had.

    A part of a model may be frozen, and so in evaluation mode, while the rest of it trains.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        model.train(modes[0][1])  # as the model itself does it
        for module, mode in modes:
            module.training = mode
