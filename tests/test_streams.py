"""What ends a command is one line, whatever and wherever it is; streams may be closed, full, idle or a terminal."""

import io
import os
import shutil
import subprocess
import sys
import threading
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.cli import main as command_line
from glassgpt.cli import stdin
from glassgpt.cli.generate import _write
from glassgpt.errors import DamagedError, UserError
from tests.conftest import SMALL, TEXT, call

posix = pytest.mark.skipif(os.name == "nt", reason="closes POSIX streams")


class UnspeakableError(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError("no words")


class Panic(BaseException):
    """As libraries in Rust raise it: no `Exception`."""


def import_error(name: str) -> ImportError:
    return ImportError(f"libgomp.so.1: cannot open shared object file ({name})", name=name)


ERRORS: list[tuple[BaseException, int]] = [
    (UserError("wrong\nvalue \x1b[31m"), 2),
    (DamagedError("damaged"), 2),
    (MemoryError(), 2),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), 2),
    (OSError(28, "No space left on device"), 2),
    (OSError("of its own"), 2),
    (PermissionError(13, "Permission denied", b"/x\xff"), 2),
    (FileNotFoundError(2, "No such file or directory", "a" * 5000), 2),
    (import_error("torch"), 2),
    (import_error("glassgpt.nothing"), 1),
    (RuntimeError("line one\nline two"), 1),
    (RecursionError("maximum recursion depth exceeded"), 1),
    (OverflowError("int too large to convert"), 1),
    (UnicodeDecodeError("utf-8", b"\xff" * 9999, 0, 1, "invalid start byte"), 1),
    (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"), 1),
    (ValueError("x" * 100_000), 1),
    (KeyError("\x1b]0;title\x07"), 1),
    (AssertionError(), 1),
    (StopIteration(), 1),
    (UnspeakableError(), 1),
    (ExceptionGroup("several", [ValueError("one")]), 1),
    (Panic("called `Option::unwrap()` on a `None` value"), 1),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("place", ["parse", "make_app", "take_overrides", "use_utf8", "open_closed_streams"])
def test_every_error_is_one_line(
    place: str, error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a command or its imports (`parse` gives what is called), while words are parsed, before anything is."""

    def fail(*_args: object) -> None:
        raise error

    monkeypatch.delenv("GLASSGPT_DEBUG", raising=False)
    monkeypatch.setattr(command_line, place, (lambda *_: fail) if place == "parse" else fail)
    assert call("recipes") == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("glassgpt: ") and shown.err.count("\n") == 1
    assert len(shown.err) <= command_line.LONGEST_LINE + 20
    assert "\x1b" not in shown.err
    assert ("a bug in glassgpt, not yours" in shown.err) == (code == 1)


@pytest.mark.parametrize("way", ["first", "last", "environment"])
def test_debug_shows_the_traceback_of_anything(
    way: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLASSGPT_DEBUG", "1" if way == "environment" else "no")
    words = ["--debug"] * (way == "first") + ["info", "nothing"] + ["--debug"] * (way == "last")
    assert call(*words) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown and shown.splitlines()[-1].startswith("glassgpt: no run folder, recipe or model")
    if way != "environment":
        assert call(*[word for word in words if word != "--debug"]) == 2
        assert "Traceback" not in capsys.readouterr().err
        assert call("info", "--debug", "gpt2") == 2
        assert "first or the last word" in capsys.readouterr().err


def test_an_interrupt_is_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "parse", lambda *_: interrupt)
    assert call("recipes") == 130
    monkeypatch.setattr(command_line, "_explain", interrupt)  # a second one, while the first error is explained
    monkeypatch.setattr(command_line, "parse", lambda *_: 1 / 0)
    assert call("recipes") == 130
    assert capsys.readouterr().err == ""


def test_warnings_and_what_fails_beside_the_work_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fragile:
        def __del__(self) -> None:
            raise ValueError("not destroyed")

    def fails() -> None:
        raise RuntimeError("in a thread")

    def work() -> None:
        sys.stderr.write(warnings.formatwarning(UserWarning("look\nout \x1b[2J"), UserWarning, "file.py", 1))
        thread = threading.Thread(target=fails)
        thread.start()
        thread.join()
        Fragile()

    monkeypatch.setattr(command_line, "parse", lambda *_: work)
    before = warnings.formatwarning, threading.excepthook, sys.unraisablehook
    assert call("recipes") == 0
    assert before == (warnings.formatwarning, threading.excepthook, sys.unraisablehook)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "glassgpt: warning: look out ␛[2J",
        "glassgpt: warning: RuntimeError beside the work: in a thread",
        "glassgpt: warning: ValueError beside the work: not destroyed",
    ]


# --- streams that are closed or full -----------------------------------------------------------------------------


def closed_pipe() -> int:
    """The end of a pipe that nobody reads."""
    reads, writes = os.pipe()
    os.close(reads)
    return writes


OUTPUTS: dict[str, Callable[[], int]] = {"closed": closed_pipe}
if Path("/dev/full").exists():
    OUTPUTS["full"] = lambda: os.open("/dev/full", os.O_WRONLY)


@posix
@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize(
    "words",
    ["recipes", "--help", "train --help", "--version", "compare RUN --out OUT.png"],
)
def test_output_that_nobody_takes(kind: str, words: str, trained_run: Path, tmp_path: Path) -> None:
    """A closed pipe is no error, a full disk is one line; what else the command makes is there."""
    given = [word.replace("RUN", str(trained_run)).replace("OUT", str(tmp_path / "out")) for word in words.split()]
    out = OUTPUTS[kind]()
    command = [sys.executable, "-m", "glassgpt", *given]
    done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, timeout=120, check=False)
    os.close(out)
    expected = [] if kind == "closed" else ["glassgpt: input or output: No space left on device"]
    assert done.stderr.decode().splitlines() == expected
    assert done.returncode == (0 if kind == "closed" else 2)
    assert "OUT" not in words or list(tmp_path.iterdir())


@posix
def test_without_any_streams_the_exit_code_says_it(tmp_path: Path) -> None:
    def run(*words: str) -> int:
        shell = 'exec "$@" <&- >&- 2>&-'
        command = ["sh", "-c", shell, "sh", sys.executable, "-m", "glassgpt", *words]
        return subprocess.run(command, timeout=120, check=False).returncode

    assert run("recipes") == 0
    assert run("info", "nothing") == 2


# --- standard input ----------------------------------------------------------------------------------------------


class Input:
    """Standard input with bytes in it."""

    def __init__(self, data: bytes | int, *, terminal: bool = False):
        self.buffer = io.BytesIO(data) if isinstance(data, bytes) else os.fdopen(data, "rb")
        self._terminal = terminal

    def __del__(self) -> None:
        self.buffer.close()

    def isatty(self) -> bool:
        return self._terminal

    def fileno(self) -> int:
        return self.buffer.fileno()


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"the", "the"), (b"\xef\xbb\xbfthe\r\ncat\r", "the\ncat\r"), ("naïve 東京".encode(), "naïve 東京")],
)
def test_a_prompt_is_read_as_files_are(data: bytes, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Input(data))
    assert stdin.read_prompt() == text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfet\x00", "UTF-16"),
        (b"caf\xe9", "not UTF-8"),
        (b"some\x00text", "binary"),
        (b"long", "larger"),
    ],
)
def test_what_is_no_prompt_is_one_line(data: bytes, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Input(data))
    monkeypatch.setattr(stdin, "MOST", 2 if message == "larger" else 100)
    with pytest.raises(UserError, match=message):
        stdin.read_prompt()


def test_where_no_prompt_can_come_from_it_is_the_recipes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Input(b"typed", terminal=True))
    assert stdin.read_prompt() is None
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stdin", Input(os.open(os.devnull, os.O_RDONLY)))
    assert stdin.read_prompt() is None
    assert "the recipe's prompt is used" in capsys.readouterr().err


def test_an_idle_pipe_is_not_waited_for_in_silence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reads, writes = os.pipe()
    said = threading.Event()

    def note(line: str) -> None:
        assert "waiting for the prompt on standard input" in line and "--prompt" in line
        said.set()

    def answer() -> None:
        said.wait(60)
        os.write(writes, b"the cat")
        os.close(writes)

    monkeypatch.setattr(sys, "stdin", Input(reads))
    monkeypatch.setattr(stdin, "note", note)
    monkeypatch.setattr(stdin, "PATIENCE", 0.01)
    thread = threading.Thread(target=answer)
    thread.start()
    assert stdin.read_prompt() == "the cat"
    thread.join()
    assert said.is_set()


# --- text that could steer a terminal ----------------------------------------------------------------------------


class Output(io.StringIO):
    def __init__(self, terminal: bool):
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_generated_text_cannot_steer_a_terminal(pieces: list[str]) -> None:
    """However it is cut into pieces; what goes into a file or a pipe is left as it is."""
    written = {}
    for terminal in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", written.setdefault(terminal, Output(terminal)))
            for piece in pieces:
                _write(piece)
    assert written[False].getvalue() == "".join(pieces)
    shown = written[True].getvalue()
    assert not [c for c in shown if unicodedata.category(c) == "Cc" and c not in "\n\t"]
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def test_a_name_is_shown_as_it_is(trained_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No markup in it, and no control sequence."""
    name = "w[/v] [red]x[/red] \x1b[31my\x1b]0;t\x07" if os.name == "posix" else "w[red]"
    run = tmp_path / name
    shown = name.replace("\x1b", "␛").replace("\x07", "␇")
    shutil.copytree(trained_run, run)
    picture = tmp_path / f"{name}.png"
    for words in (
        ["compare", run, "--out", picture],
        ["plot", run, "--out", picture],
        ["info", run],
        ["evaluate", run],
        ["inspect", run, "--prompt", "the", "--out", tmp_path / f"i{name}", "--no-pictures"],
    ):
        assert call(*words) == 0
        said = capfd.readouterr()
        assert "\x1b" not in said.out + said.err
        assert shown[:20] in " ".join(said.out.split()), words


# --- names -------------------------------------------------------------------------------------------------------

BAD = "big\udce9.txt"  # what Python makes of a name that ends in byte 0xE9


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--data", BAD, "--out", "new"],
        ["train", "--data", "my.txt", "--out", BAD],
        ["train", BAD],
        ["train", f"--training.device={BAD}"],
        ["generate", BAD],
        ["generate", "run", "--prompt", BAD],
        ["compare", "run", "--out", BAD],
        ["prepare", BAD, "--out", "new"],
        ["tokenizer", "info", BAD],
        [BAD],
        ["--\udce9"],
    ],
    ids=repr,
)
def test_words_that_are_no_text_are_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my.txt").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert call(*words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "not UTF-8" in said
    assert "\\xe9" in said or os.name == "nt"
    assert [path.name for path in tmp_path.iterdir()] == ["my.txt"]


def test_the_home_folder_has_one_name_everywhere(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shell expands `~` only at the beginning of a word, and not in quotes."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "home" / "my.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "home" / "my.toml").write_text("[data]\nsource = '~/my.txt'\n[training]\nmax_steps = 1\n")
    for words in (
        ["tokenizer", "train", "~/my.txt", "--kind", "char", "--out", tmp_path / "home" / "t.json"],
        ["train", "--data=~/my.txt", "--out=~/r", *SMALL],
        ["train", "~/my.toml", "--out", "~/r2", *SMALL],
        ["train", "--resume=~/r", "--training.max-steps", "13"],
        ["generate", "~/r", "--prompt", "the"],
        ["compare", "~/r", "--out=~/c.png"],
        ["plot", "~/r", "~/r2", "--out=~/p.png"],
        ["inspect", "~/r", "--prompt", "the", "--out=~/i", "--no-pictures"],
        ["info", "~/r"],
        ["tokenizer", "info", "~/t.json"],
        ["tokenizer", "info", "~/r"],
    ):
        assert call(*words) == 0, (words, capsys.readouterr().err)
    assert list((tmp_path / "here").iterdir()) == []
    names = {"my.txt", "my.toml", "t.json", "r", "r2", "c.png", "p.png", "i"}
    assert {path.name for path in (tmp_path / "home").iterdir()} == names
