"""The suite is the same on every machine and day: which warnings are errors, and what of the environment counts."""

import os
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import DEPRECATIONS, settle
from tests.conftest import command


def _deprecating(kind: type[Warning], stacklevel: int) -> None:
    warnings.warn("no longer", kind, stacklevel)


def _calling(function: Callable[..., None], *words: object) -> None:
    function(*words)


def in_module(name: str, function: Callable[..., None]) -> Callable[..., None]:
    """The function as it would be in a module of that name."""
    return types.FunctionType(function.__code__, {"__name__": name, "warnings": warnings})


@pytest.fixture
def usual_warnings(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getini("filterwarnings") == ["error"]:
        pytest.skip("here all warnings are errors, as in `make test-newest`")


@pytest.mark.usefixtures("usual_warnings")
@pytest.mark.parametrize("kind", DEPRECATIONS)
@pytest.mark.parametrize("stacklevel", [1, 2])
@pytest.mark.parametrize("caller", ["glassgpt.bench.writers", "tests.test_model"])
@pytest.mark.parametrize("package", ["transformers.utils", "matplotlib", "typing_extensions"])
def test_what_another_package_deprecates_is_no_error(
    package: str, caller: str, stacklevel: int, kind: type[Warning]
) -> None:
    with warnings.catch_warnings(record=True) as seen:
        in_module(caller, _calling)(in_module(package, _deprecating), kind, stacklevel)
    assert [warning.category for warning in seen] == [kind]


@pytest.mark.parametrize("kind", [*DEPRECATIONS, UserWarning, RuntimeWarning])
@pytest.mark.parametrize(
    ("module", "stacklevel"),
    [("glassgpt", 1), ("glassgpt.bench.writers", 1), ("glassgpt.bench.writers", 2), ("tests.test_model", 1), ("os", 2)],
)
def test_a_warning_of_our_own_or_of_python_about_us_is_one(module: str, stacklevel: int, kind: type[Warning]) -> None:
    with pytest.raises(kind, match="no longer"):
        in_module("glassgpt.model", _calling)(in_module(module, _deprecating), kind, stacklevel)


@pytest.mark.parametrize("kind", [UserWarning, RuntimeWarning, ResourceWarning])
def test_other_warnings_of_other_packages_are_errors(kind: type[Warning]) -> None:
    with pytest.raises(kind, match="no longer"):
        in_module("torch.nn", _deprecating)(kind, 1)


def test_warnings_still_count_where_they_are_said_to() -> None:
    with pytest.warns(UserWarning, match="no longer") as seen:
        _deprecating(UserWarning, 1)
    assert Path(seen[0].filename) == Path(__file__)


def test_what_a_user_has_set_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    user = {
        "HOME": "/home/me",
        "COLUMNS": "20",
        "https_proxy": "http://nowhere",
        "LC_ALL": "tr_TR",
        "MPLBACKEND": "nosuch",
        "OMP_NUM_THREADS": "64",
        "TERM": "dumb",
        "GLASSGPT_CACHE": "/mine",
        "GLASSGPT_DATA": "texts",
        "PYTHONPATH": f"src{os.pathsep}lib",
    }
    settle(user)
    assert user == {
        "HOME": "/home/me",
        "OMP_NUM_THREADS": "1",
        "TERM": "xterm",
        "GLASSGPT_DATA": str(tmp_path / "texts"),
        "PYTHONPATH": f"{tmp_path / 'src'}{os.pathsep}{tmp_path / 'lib'}",
    }


def test_commands_inherit_that() -> None:
    assert not {"COLUMNS", "PYTHONWARNINGS", "LC_ALL", "MPLBACKEND"} & {*os.environ}
    assert command("recipes").stderr == b""
    assert sys.flags.optimize == 0, "without assertions, tests test nothing"
