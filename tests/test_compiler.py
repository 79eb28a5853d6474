"""The C++ compiler: found by CXX whatever stands before it, and heard if it fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from glassgpt.generation.compiler import find_compiler, use_compiler, why_not_compiled
from glassgpt.training.precision import compiled


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, the only one that is searched."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("g++", "ccache", "clang++", "cl"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="programs without .exe")
@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("g++", "g++"),
        ("ccache g++", "g++"),
        ("ccache clang++ -O2", "clang++"),
        ("'g++'", "g++"),
        ("nosuch", None),
        ("'open quote", None),
    ],
)
def test_the_compiler_of_cxx(value: str, name: str | None, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setenv("CXX", value)
    with config.patch({"cpp.cxx": (None, value)}):
        assert find_compiler() == (None if name is None else str(programs / name))
        use_compiler()
        assert config.cpp.cxx == (None, find_compiler() if " " in value and name else value)


def test_without_cxx_it_is_the_usual_one(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "", " "):
        monkeypatch.delenv("CXX", raising=False) if value is None else monkeypatch.setenv("CXX", value)
        assert find_compiler() is not None or sys.platform == "win32"


def failure(output: str | bytes) -> Exception:
    """As torch wraps what a compiler says."""
    try:
        try:
            raise subprocess.CalledProcessError(1, ["g++"], output=output)
        except subprocess.CalledProcessError as inner:
            raise RuntimeError("C++ compile error\n\nCommand:\ng++ …") from inner
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (
            "In file included\nx.cpp:1: fatal error: omp.h: No such file\n 1 | #include\n",
            "x.cpp:1: fatal error: omp.h: ",
        ),
        (b"something\n\nld: cannot find -lgomp\n", "ld: cannot find -lgomp"),
        (b"\xff error \n", "error"),
        ("", "C++ compile error"),
    ],
)
def test_the_compilers_own_line_is_shown(output: str | bytes, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert line in why_not_compiled(failure(output))
    assert "\n" not in why_not_compiled(failure(output))
    monkeypatch.setattr("tempfile.tempdir", "/a folder")
    assert ("a space in TMPDIR" in why_not_compiled(failure(output))) == bool(output)


def test_training_goes_on_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_model: nn.Module) -> object:
        def forward(_ids: torch.Tensor) -> torch.Tensor:
            raise failure("x.cpp:1: error: no")

        return forward

    monkeypatch.setattr(torch, "compile", fails)
    forward = compiled(nn.Identity())
    with pytest.warns(UserWarning, match=r"going on without it \(x.cpp:1: error: no\)"):
        assert forward(torch.ones(1)) == 1
    assert forward(torch.ones(1)) == 1
