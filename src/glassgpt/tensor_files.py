"""Tensors in safetensors files: written whole or not at all, read back to the CPU."""

import errno
import re
from pathlib import Path
from typing import TYPE_CHECKING

from glassgpt.errors import DamagedError, UserError, reason
from glassgpt.files import replacing
from glassgpt.reading import open_regular

if TYPE_CHECKING:
    from safetensors import SafetensorError
    from torch import Tensor


def load_tensors(path: Path) -> "dict[str, Tensor]":
    """Read a safetensors file to the CPU.

    Raises:
        DamagedError: it is missing or damaged.
        UserError: it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.exists() and not path.is_symlink():
        raise DamagedError(
            f"{path}: no such file: the run was stopped before it saved any weights, or the file was removed"
        )
    open_regular(path, "a model's tensors").close()
    try:
        return load_file(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {reason(error)}") from None
    except SafetensorError as error:
        if refused := _os_error(error):
            raise UserError(f"{path}: cannot be read: {refused.strerror}") from None
        raise DamagedError(f"{path}: damaged: {reason(error)}") from None
    except (ValueError, KeyError, AttributeError, RuntimeError, OverflowError) as error:  # a type that torch has not
        raise DamagedError(f"{path}: damaged: {reason(error)}") from None


def save_tensors(tensors: "dict[str, Tensor]", path: Path) -> None:
    """Write tensors from any device as a safetensors file, whole or not at all; equal tensors give equal bytes.

    Raises:
        OSError: the disk is full, or may not be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        on_cpu: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, tensor in tensors.items():
            copy = tensor.detach().cpu().contiguous()
            # The format refuses two names for one memory (tied weights): the second is written as a copy.
            on_cpu[name] = copy.clone() if copy.data_ptr() in seen else copy
            seen.add(copy.data_ptr())
        temporary.touch()
        usual_mode = temporary.stat().st_mode
        try:
            save_file(on_cpu, temporary, {"format": "pt"})  # (two keys here would come in random order)
        except SafetensorError as error:
            raise _os_error(error) or OSError(errno.EIO, str(error)) from None
        temporary.chmod(usual_mode)  # safetensors makes files that only their owner may read


def check_tensors(whose: str, found: "dict[str, Tensor]", wanted: "dict[str, Tensor]") -> None:
    """Make sure that tensors can take the place of others: copying would stretch small ones, and convert any.

    Raises:
        ValueError: a name, a shape or a number format differs.
    """
    if found.keys() != wanted.keys():
        raise ValueError(f"{whose} state is of another kind ({sorted(found.keys() ^ wanted.keys())[0]})")
    for name, tensor in wanted.items():
        if (other := found[name]).shape != tensor.shape:
            shapes = f"{tuple(other.shape)} instead of {tuple(tensor.shape)}"
            raise ValueError(f"{whose} {name} has another shape: {shapes}")
        if other.dtype != tensor.dtype:
            formats = f"{other.dtype} instead of {tensor.dtype}".replace("torch.", "")
            raise ValueError(f"{whose} {name} has another number format: {formats}")


def _os_error(error: "SafetensorError") -> OSError | None:
    """What the operating system refused, if that is what the library means to say."""
    found = re.search(r"([^:]+) \(os error (\d+)\)", str(error))
    return OSError(int(found[2]), found[1].strip()) if found else None
