"""Loading libraries that a command may need, with one line about what is wrong if that fails."""

from importlib import import_module
from types import ModuleType
from typing import Any

from glassgpt.errors import UserError, reason


def load(name: str, purpose: str, extra: str | None = None) -> Any:
    """Import a module when it is needed.

    Args:
        name: of the module, such as "pyarrow.parquet".
        purpose: what needs it, for the message, such as "reading texts.parquet".
        extra: the extra of glassgpt that brings it.

    Raises:
        UserError: it is not installed, or cannot be loaded: another library is missing, or a setting is wrong.
    """
    package = name.partition(".")[0]
    try:
        module: ModuleType = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise UserError(f"{purpose}: {package} cannot be loaded: {reason(error)}") from None
        fix = f'pip install "glassgpt[{extra}]"' if extra else f"pip install {package}"
        raise UserError(f"{purpose}: takes the package {package}: {fix}") from None
    except Exception as error:  # whatever a library raises while it is loaded, such as matplotlib about MPLBACKEND
        raise UserError(f"{purpose}: {package} cannot be loaded: {reason(error)}") from None
    return module
