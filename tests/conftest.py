"""What the tests share: small texts, small models, and one small trained run."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest
import torch

from glassgpt.cli.main import main
from glassgpt.data.corpora import CORPORA

hypothesis.settings.register_profile("glassgpt", deadline=None)  # nothing is asserted on time
hypothesis.settings.load_profile("glassgpt")
# What tests prepare is theirs: a cache for each test process, and for the commands that it starts.
_CACHE = tempfile.TemporaryDirectory(prefix="glassgpt-tests-")
os.environ["GLASSGPT_CACHE"] = _CACHE.name
with suppress(ValueError):  # (not in the main thread)
    # A shell that starts the tests in the background lets them ignore Ctrl-C, and so would all commands they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

TEXT = "the cat sat on the mat. the dog sat on the log.\n" * 60  # learned in a few steps

SMALL = [
    *("--model.n-layer", "2", "--model.n-head", "2", "--model.n-embd", "32", "--model.block-size", "16"),
    *("--training.max-steps", "12", "--training.eval-every", "4", "--training.batch-size", "4"),
    *("--training.log-every", "1", "--training.device", "cpu", "--training.warmup-steps", "2"),
    *("--sampling.max-new-tokens", "8"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests come first, so that at the end no process waits for another."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # small tensors, and several workers on few cores


@pytest.fixture(autouse=True)
def _the_same_random_numbers_each_time() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _the_same_precision_on_every_processor() -> Iterator[None]:
    """`auto` is float32 here, so that what is compared closely can be, also where a CPU has units for bfloat16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glassgpt.training.precision._cpu_has_bfloat16", lambda: False)
        yield


@pytest.fixture
def own_compiler() -> Iterator[None]:
    """torch.compile as in a new process: it remembers what it met before, and whom it gave up on."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run, trained for real. Tests must not change it: copy it first."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    run = folder / "run"
    assert call("train", "--data", folder / "text.txt", "--out", run, *SMALL) == 0
    return run


def call(*words: object) -> int:
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    code = ended.value.code
    assert isinstance(code, int) or code is None
    return code or 0


def command(*words: object, stdin: bytes = b"", **settings: object) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "glassgpt", *map(str, words)],
        input=stdin,
        capture_output=True,
        timeout=300,
        check=False,
        **settings,  # type: ignore[call-overload]
    )


def corpus_or_skip(name: str) -> Path:
    """The file of a corpus, if GLASSGPT_DATA has it."""
    folder = os.environ.get("GLASSGPT_DATA")
    if folder is None or not (Path(folder) / CORPORA[name].filename).is_file():
        pytest.skip(f"needs the corpus {name!r}: put {CORPORA[name].filename} into a folder named in GLASSGPT_DATA")
    return Path(folder) / CORPORA[name].filename


Call = Callable[..., int]
