"""The C++ compiler that torch's own compiler calls: which one, and what it said if it failed."""

import os
import platform
import shlex
import shutil
import tempfile

from glassgpt.errors import reason, shorten


def find_compiler() -> str | None:
    """The path of the compiler that CXX names, or of the usual one; None if there is none.

    CXX may put other programs before the compiler, as in "ccache g++". torch takes all of that for the name of one
    program, so they are left out.
    """
    words = _words()
    found = [path for word in words if not word.startswith("-") and (path := shutil.which(word))]
    return found[-1] if found else None


def _words() -> list[str]:
    usual = {"Darwin": "clang++", "Windows": "cl"}.get(platform.system(), "g++")
    try:
        return shlex.split(os.environ.get("CXX", ""), posix=os.name == "posix") or [usual]
    except ValueError:  # a quotation mark without its partner
        return []


def use_compiler() -> None:
    """Let torch take the compiler of a CXX that has other words around it."""
    found = find_compiler()
    if found is not None and len(_words()) > 1:
        from torch._inductor import config

        config.cpp.cxx = (None, found)


def why_not_compiled(error: BaseException) -> str:
    """Why compiling failed, in one line: what the C++ compiler said, if it was called."""
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        output = getattr(inner, "output", None)  # of torch's CppCompileError, and of subprocess's errors
        if isinstance(output, bytes):
            output = output.decode("utf-8", errors="replace")
        lines = [line.strip() for line in output.splitlines() if line.strip()] if isinstance(output, str) else []
        if lines:
            said = shorten(next((line for line in lines if "error" in line.lower()), lines[-1]), 300)
            folder = tempfile.gettempdir()
            return f"{said}: a space in TMPDIR ({folder})?" if " " in folder else said
        inner = getattr(inner, "inner_exception", None) or inner.__cause__ or inner.__context__
    return reason(error)
