"""Playing: the session by itself, what can be typed, and the whole command in a pipe and in a terminal."""

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

import glassgpt
from glassgpt.cli.playing.commands import COMMANDS, Player, completions
from glassgpt.cli.playing.interrupts import stopping
from glassgpt.cli.playing.lines import Entry, Keyboard, Pipe, bounded_lines, edit_with, read_entry
from glassgpt.cli.playing.screen import SHADES, Screen
from glassgpt.cli.playing.session import Session, Writing
from glassgpt.cli.playing.texts import Typed, Written, setting_names, text_of
from glassgpt.errors import UserError
from glassgpt.generation.config import SamplingConfig
from tests.conftest import call, command


@dataclass
class Piece:
    """What a run yields, as far as a session looks at it."""

    text: str
    logprobs: SimpleNamespace | None = None


class Storyteller:
    """In the place of a run: writes the seed and the temperature, a letter a token; refuses any prompt with a `?`."""

    block_size = 20
    tokenizer = SimpleNamespace(encode=list)

    def __init__(self, script: list[Piece] | None = None):
        self.script = script
        self.prompts: list[str] = []
        self.closed = 0

    def before_token(self, number: int) -> None:
        pass

    def sampling(self) -> SamplingConfig:
        return SamplingConfig(prompt="Once ", max_new_tokens=100, temperature=0.5)

    def prompt(self, prompt: str | None) -> str:
        return prompt or "Once "

    def pieces(self, prompt: str, *, seed: int, crop_prompt: bool, logprobs: int, **settings) -> Generator:
        assert crop_prompt
        assert logprobs == 0
        SamplingConfig.parse(settings)
        if "?" in prompt:
            raise UserError("the tokenizer does not know '?'")
        self.prompts.append(prompt)
        chance = f"s{seed}" if settings["temperature"] else "greedy"
        letters = [Piece(c, SimpleNamespace(chosen=-0.5)) for c in f"{chance} t{settings['temperature']}."]
        script = self.script or letters[: settings["max_new_tokens"]]
        try:
            for number, piece in enumerate(script):
                self.before_token(number)
                yield piece
        finally:
            self.closed += 1
        return SimpleNamespace(finish_reason="stop" if len(script) == len(letters) else "length")


def write(writing: Writing) -> str:
    return "".join(text for text, _ in writing.marks)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def session(told: list[str]) -> Session:
    return Session(Storyteller(), "runs/a", told.append)


# --- texts -------------------------------------------------------------------------------------------------------


def test_a_beginning_is_a_text_of_its_own_and_goes_on(session: Session) -> None:
    session.set("seed", "7")
    assert write(session.begin("The ")) == "s7 t0.5."
    assert session.text == "The s7 t0.5."
    write(session.more())
    assert session.text == "The s7 t0.5.s7 t0.5."
    write(session.add(" And "))
    assert session.text == "The s7 t0.5.s7 t0.5. And s7 t0.5."
    write(session.begin("A"))
    assert [text_of(text) for text in session.texts] == ["The s7 t0.5.s7 t0.5. And s7 t0.5.", "As7 t0.5."]


def test_with_no_text_it_begins_as_the_recipe_does(session: Session) -> None:
    write(session.more())
    assert session.text.startswith("Once s")


def test_each_text_has_another_seed_unless_it_is_fixed(session: Session) -> None:
    seeds = [written_last(session, session.begin("x")).settings.seed for _ in range(5)]
    assert len(set(seeds)) == 5
    session.set("seed", "0")
    assert [written_last(session, session.begin("x")).settings.seed for _ in range(2)] == [0, 0]


def written_last(session: Session, writing: Writing) -> Written:
    write(writing)
    assert isinstance(session.parts[-1], Written)
    return session.parts[-1]


def test_what_the_model_refuses_changes_nothing(session: Session) -> None:
    write(session.begin("The "))
    before = session.texts
    for writing in (session.begin("what?"), session.add("?")):
        with pytest.raises(UserError, match="does not know"):
            write(writing)
    assert session.texts == before
    session.undo()
    assert session.texts == ()


def test_a_text_that_is_stopped_is_kept_so_far() -> None:
    run = Storyteller()
    session = Session(run)
    writing = session.begin("The ")
    shown = next(writing.marks)[0] + next(writing.marks)[0]
    writing.marks.close()
    assert run.closed == 1  # the engine is told
    assert session.text == "The " + shown
    assert isinstance(last := session.parts[-1], Written)
    assert last.finish_reason == "interrupted"
    write(session.more())
    assert run.prompts[-1] == "The " + shown


def test_an_error_in_the_middle_keeps_what_was_written() -> None:
    class Breaks(Storyteller):
        def pieces(self, *_args, **_settings) -> Generator:
            yield Piece("half")
            raise UserError("the model's output is not a number")

    session = Session(Breaks())
    with pytest.raises(UserError):
        write(session.begin("a "))
    assert session.text == "a half"


def test_undo_goes_back_one_change_at_a_time(session: Session) -> None:
    states = [session.texts]
    for change in (
        lambda: write(session.begin("a")),
        lambda: write(session.more()),
        lambda: write(session.retry()),
        lambda: session.edit("something else"),
        lambda: write(session.begin("b")),
    ):
        change()
        states.append(session.texts)
    for state in reversed(states[:-1]):
        session.undo()
        assert session.texts == state
    with pytest.raises(UserError, match="nothing has been written"):
        session.undo()


def test_retry_writes_the_last_piece_again_with_another_seed(session: Session, told: list[str]) -> None:
    write(session.begin("a"))
    first = session.text
    write(session.more())
    second = session.text
    write(session.retry())
    assert session.text.startswith(first)
    assert session.text != second
    assert told == []
    with pytest.raises(UserError, match="no text yet"):
        Session(Storyteller()).retry()


def test_retry_with_a_fixed_seed_is_the_same_text_and_says_so(session: Session, told: list[str]) -> None:
    session.set("seed", "7")
    write(session.begin("a"))
    text = session.text
    write(session.retry())
    assert session.text == text
    assert "the seed is fixed at 7" in told.pop()
    session.set("temperature", "0.9")  # the same seed with another setting is what one fixes it for
    write(session.retry())
    assert session.text == "as7 t0.9."
    session.set("temperature", "0")
    session.set("seed", "none")
    write(session.retry())
    assert told == []
    write(session.retry())
    assert "temperature 0" in told.pop()


def test_retry_after_an_edit_goes_on_from_it(session: Session) -> None:
    write(session.begin("a"))
    session.edit("bcd")
    write(session.retry())
    assert session.text.startswith("bcd")


def test_edit_keeps_the_parts_before_the_change(session: Session) -> None:
    session.set("seed", "7")
    write(session.begin("The "))
    write(session.more())
    first, second, _ = session.parts
    assert not session.edit(session.text)
    assert session.edit("The s7 t0.5.and")
    assert session.parts == (first, second, Typed(typed="and"))
    assert session.edit("The s7 t0.5.")
    assert session.parts == (first, second)
    assert session.edit("Xhe")
    assert session.parts == (Typed(typed="Xhe"),)
    assert session.edit("")
    assert session.text == ""


def test_a_text_longer_than_the_context_is_told_of_once(session: Session, told: list[str]) -> None:
    write(session.begin("x" * 20))
    assert told == []
    write(session.more())
    write(session.more())
    assert len(told) == 1
    assert "context of 20 tokens" in told[0]


def test_a_mark_has_the_probability_of_its_least_likely_token() -> None:
    def piece(text: str, probability: float) -> Piece:
        return Piece(text, SimpleNamespace(chosen=math.log(probability)))

    run = Storyteller([piece("a", 0.5), piece("", 0.1), piece("🎉", 0.9), piece("", 0.3), Piece("end")])
    session = Session(run)
    write(session.begin("x"))
    assert session.parts[-1].marks == (("a", 0.5), ("🎉", 0.1), ("end", 0.3))


def test_halves_of_surrogate_pairs_are_no_characters(tmp_path: Path) -> None:
    session = Session(Storyteller([Piece("\ud83d"), Piece("b")]))
    write(session.begin("\udc00a"))
    assert session.text == "\ufffda\ufffdb"
    session.save(str(tmp_path / "s"))


# --- settings ----------------------------------------------------------------------------------------------------


def test_settings_are_those_of_the_sampling_and_the_seed() -> None:
    assert set(setting_names()) == set(SamplingConfig.model_fields) - {"prompt"} | {"seed"}


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("temperature", "0.25", 0.25),
        ("top_k", "5", 5),
        ("top-k", "none", None),
        ("TOP_P", "1", 1.0),
        ("max-new-tokens", "3", 3),
        ("seed", "12345678901234567890", 12345678901234567890),
        ("stop", "END", ["END"]),
        ("stop", '"\\n\\n"', ["\n\n"]),
        ("stop", "\\n", ["\n"]),
        ("stop", '[".", "!"]', [".", "!"]),
        ("stop", "none", []),
    ],
)
def test_settings_are_given_as_text(session: Session, name: str, given: str, value: object) -> None:
    session.set(name, given)
    assert getattr(session.settings, session.find_setting(name)) == value


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("temprature", "1", "did you mean 'temperature'"),
        ("prompt", "x", "no such setting"),
        ("temperature", "hot", "temperature: .*valid number.*'hot'"),
        ("temperature", "-1", "greater than or equal to 0"),
        ("temperature", "nan", "finite"),
        ("temperature", "none", "temperature: "),
        ("top_p", "1.1", "less than or equal to 1"),
        ("seed", "-3", "seed"),
        ("max_new_tokens", "1.5", "integer"),
        ("stop", '"open', "JSON"),
    ],
)
def test_wrong_settings_are_told_and_change_nothing(session: Session, name: str, given: str, message: str) -> None:
    before = session.settings
    with pytest.raises(UserError, match=message) as error:
        session.set(name, given)
    assert "\n" not in str(error.value)
    assert session.settings is before


# --- files -------------------------------------------------------------------------------------------------------


def test_a_session_comes_back_from_its_file(session: Session, told: list[str], tmp_path: Path) -> None:
    session.set("stop", '"\\n"')
    write(session.begin("The 🎉\n"))
    write(session.begin("A"))
    text, data = session.save(str(tmp_path / "story"))
    assert (text.name, data.name) == ("story.txt", "story.json")
    assert text.read_text(encoding="utf-8").startswith("The 🎉\ns")
    for name in ("story", "story.txt", "story.json"):
        other = Session(Storyteller(), "runs/a", told.append)
        other.load(str(tmp_path / name))
        assert (other.texts, other.settings) == (session.texts, session.settings)
    assert told == []
    write(other.retry())
    assert other.text.startswith("A")
    other.save(str(tmp_path / "story"))  # its own by now


def test_another_run_is_told_of(session: Session, tmp_path: Path) -> None:
    write(session.begin("The "))
    session.save(str(tmp_path / "story"))
    told: list[str] = []
    Session(Storyteller(), "runs/b", told.append).load(str(tmp_path / "story"))
    assert "runs/a" in told[0]


def test_files_of_others_are_not_written_over(session: Session, tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(UserError, match="is there already"):
        session.save(str(tmp_path / "story"))
    assert [file.name for file in tmp_path.iterdir()] == ["story.txt"]
    session.save(str(tmp_path / "other"))
    session.save(str(tmp_path / "other"))


def test_nothing_is_lost_by_saving(session: Session, tmp_path: Path) -> None:
    """A file is written again only while it holds what the session wrote or loaded: anything else is someone's."""
    write(session.begin("The "))
    text, data = session.save(str(tmp_path / "story"))

    def refused(player: Session, message: str) -> None:
        before = {file: file.read_bytes() for file in tmp_path.iterdir()}
        with pytest.raises(UserError, match=message):
            player.save(str(tmp_path / "story"))
        assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before

    for file in (text, data):
        content = file.read_text(encoding="utf-8")
        file.write_text(content + "a note of mine\n", encoding="utf-8")
        refused(session, "changed by someone else")
        file.write_text(content, encoding="utf-8")
    session.save(str(tmp_path / "story"))
    refused(Session(Storyteller()), "is there already")
    text.write_text("precious", encoding="utf-8")
    other = Session(Storyteller(), "runs/a")
    other.load(str(data))  # whose text is not the session's any more
    refused(other, "changed by someone else")
    text.unlink()
    data.unlink()
    data.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UserError, match="changed by someone else"):
        other.save(str(tmp_path / "story"))
    assert data.is_symlink() and not text.exists()


@pytest.mark.parametrize("name", ["", "  ", "no/such/folder/x", ".", "..", "a" * 300, "nul\0l"])
def test_names_that_cannot_be_written(
    session: Session, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        session.save(name)


@pytest.mark.parametrize(
    "damage",
    [
        lambda saved: saved.pop("texts"),
        lambda saved: saved.update(format="else"),
        lambda saved: saved.update(version=2),
        lambda saved: saved["settings"].update(temperature=-1),
        lambda saved: saved["texts"][0][1].update(finish_reason="bored"),
        lambda saved: saved["texts"][0].append({"typed": 3}),
        lambda saved: saved["texts"][0][1]["marks"].append(["x", -0.1]),
        lambda saved: saved["texts"].append([]),
        lambda saved: saved["texts"].append([{"typed": "\ud800"}]),
        lambda saved: saved["settings"].update(seed=10**400),
    ],
)
def test_damaged_files_are_refused(session: Session, tmp_path: Path, damage) -> None:
    write(session.begin("The "))
    _, data = session.save(str(tmp_path / "story"))
    saved = json.loads(data.read_text(encoding="utf-8"))
    damage(saved)
    data.write_text(json.dumps(saved), encoding="utf-8")
    other = Session(Storyteller())
    with pytest.raises(UserError, match=r"story\.json"):
        other.load(str(tmp_path / "story"))
    assert other.texts == ()


# --- what is typed -----------------------------------------------------------------------------------------------


def entries(text: str) -> Iterator[Entry]:
    lines = iter(text.split("\n"))

    def line(_more: bool) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    while True:
        try:
            yield read_entry(line)
        except EOFError:
            return


def test_lines_and_blocks() -> None:
    assert list(entries('The \n\n"""\na\n\n b"""\n"""/x"""\n"""""" \nlast')) == [
        ("The ", False),
        ("", False),
        ("a\n\n b", True),
        ("/x", True),
        ("", True),
        ("last", False),
    ]
    assert next(entries('"""pasted\nat once"""')) == ("pasted\nat once", True)
    with pytest.raises(UserError, match="has no end"):
        list(entries('"""\nopen'))


@given(st.text().filter(lambda text: '"""' not in text and not text.endswith('"') and "\r" not in text))
@example("\n\n a")
def test_any_text_can_be_given_as_a_block(text: str) -> None:
    text = text.rstrip()  # (white space before the closing quotes is kept, too; rstrip is for lines of other kinds)
    assert next(entries(f'"""\n{text}"""')).text == text


def test_a_pipe_gives_its_lines_whatever_their_ends() -> None:
    pipe = Pipe([b"\xef\xbb\xbfThe \r\n", b"\xff\n", "é".encode()])
    assert pipe.read().text == "The "
    with pytest.raises(UserError, match="UTF-8"):
        pipe.read()
    assert pipe.read().text == "é"
    with pytest.raises(EOFError):
        pipe.read()


def player(text: str, run: Storyteller | None = None, **settings) -> tuple[Player, io.StringIO, io.StringIO]:
    out, notes = io.StringIO(), io.StringIO()
    terminal = settings.pop("terminal", False)
    console = Console(file=out, force_terminal=terminal, highlight=False, width=80, **settings)
    screen = Screen(console, None if terminal else Console(file=notes, highlight=False, width=80))
    session = Session(run or Storyteller(), "runs/a", screen.note)
    return Player(session, screen, Pipe([line.encode() + b"\n" for line in text.split("\n")])), out, notes


def played(text: str, run: Storyteller | None = None) -> tuple[str, str]:
    made, out, notes = player(text, run)
    made.play()
    return out.getvalue(), notes.getvalue()


def test_texts_alone_go_to_the_output() -> None:
    run = Storyteller()
    run.block_size = 100
    out, notes = played("/set seed 7\nThe \n\n/add  And \n/set temperature 0\n/retry\n/undo\n/quit\nnever", run)
    assert out == "The s7 t0.5.\ns7 t0.5.\n And s7 t0.5.\n And greedy t0.0.\n"
    assert notes == "seed 7\ntemperature 0.0\ntaken back\n"


def test_a_seed_that_was_not_chosen_is_told() -> None:
    out, notes = played("The ")
    assert out.startswith(f"The s{notes.split()[1]} t0.5.")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/sett", "did you mean '/set'"),
        ("/temperature 1", "did you mean '/set temperature'"),
        ("/top-k 3", "did you mean '/set top-k'"),
        ("/xyzzy", "known: /add"),
        ("/", "no such command"),
        ("/set temp 1", "known: max_new_tokens"),
        ("/colour purple", "on or off"),
        ("/colour on", "no colours here"),
        ("/edit", "no text yet"),
        ("/undo", "nothing has been written"),
        ("/retry", "no text yet"),
        ("/text", "no text yet"),
        ("/add", "words are missing"),
        ("/save", "a name for the file"),
        ("/load", "a name for the file"),
        ("/load nowhere", "no such file"),
        ("why?", "does not know"),
        ('"""', "has no end"),
    ],
)
def test_what_is_wrong_is_one_line_and_play_goes_on(line: str, message: str) -> None:
    ended = "" if line == '"""' else "\n/set seed 3\nok "
    out, notes = played(line + ended)
    assert message in notes.splitlines()[0]
    assert out.startswith("ok s3") or not ended


def test_every_command_is_in_the_help_and_completed() -> None:
    out, _ = played("/help")
    for entry in COMMANDS:
        assert f"/{entry.name}" in out
        assert any(line.startswith(f"/{entry.name}") for line in completions(f"/{entry.name[:-1]}"))
    assert completions("/set top") == ["/set top_k ", "/set top_p "]
    assert completions("The top") == []


def test_settings_are_shown() -> None:
    out, _ = played('/set stop "\\n"\n/show\n/set top_k')
    for name in setting_names():
        assert name in out
    assert '"\\n"' in out
    assert out.count("top_k") == 2


def test_a_pasted_list_of_commands_is_done_line_by_line() -> None:
    made, out, notes = player("")
    made.take(Entry("/set seed 4\n/set temperature 1\n"))
    made.take(Entry("several\nlines"))
    made.take(Entry("/quit", is_block=True))  # a text
    assert notes.getvalue() == "seed 4\ntemperature 1.0\n"
    assert out.getvalue() == "several\nliness4 t1.0.\n/quits4 t1.0.\n"


TYPED = st.one_of(
    st.sampled_from([f"/{command.name}" for command in COMMANDS if command.name not in ("quit", "edit")]),
    st.builds("/{} {}".format, st.sampled_from(["set", "add", "save", "load", "colour", ""]), st.text(max_size=9)),
    st.builds("/set {} {}".format, st.sampled_from(setting_names()), st.sampled_from(["none", "0", "x", "9" * 5000])),
    st.text(max_size=9),
    st.just(""),
)


@given(st.lists(TYPED, max_size=8))
def test_whatever_is_typed_play_goes_on(typed: list[str]) -> None:
    """Also after the text was edited to nothing."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made, *_ = player("")
        for line in typed:
            with suppress(UserError):
                made.take(Entry(line.replace("/", "/ ") if "../" in line or "/save /" in line else line))
            made._session.edit("")
        with suppress(UserError):
            made.take(Entry("/retry"))


def test_what_fails_in_a_terminal_loses_no_text() -> None:
    class Failing(Storyteller):
        def before_token(self, number: int) -> None:
            if len(self.prompts) == 2 and number == 2:
                raise RuntimeError("of the model")

    made, out, _ = player("/set seed 1\nThe \nA \n/text", Failing(), terminal=True, color_system=None)
    made.play()
    said = out.getvalue()
    assert "a bug in glassgpt, not yours: RuntimeError: of the model" in said
    assert said.rstrip().endswith("A s1")


def test_lines_and_blocks_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glassgpt.cli.playing.lines.MOST_LINE", 100)
    endless = bounded_lines(io.BytesIO(b"short\n" + b"x" * 1000))
    assert next(endless) == b"short\n"
    with pytest.raises(UserError, match="a line on standard input is longer"):
        next(endless)
    with pytest.raises(UserError, match="the block that begins"):
        read_entry(lambda more: "x" * 30 if more else '"""')


def test_typed_bytes_that_are_no_text_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def typed(_prompt: str) -> str:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.setattr("builtins.input", typed)
    with pytest.raises(UserError, match="not UTF-8"):
        Keyboard(completions).read()


# --- the screen --------------------------------------------------------------------------------------------------


def coloured(marks: list[Piece], monkeypatch: pytest.MonkeyPatch, **settings) -> str:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    made, out, _ = player("/colour on\nx", Storyteller(marks), terminal=True, **settings)
    made.play()
    return out.getvalue()


@pytest.mark.parametrize("system", ["truecolor", "256", "standard"])
def test_each_class_of_probability_has_its_colour(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = [1.0, 0.7, 0.3, 0.1, 0.001]
    marks = [Piece(f"<{p}>", SimpleNamespace(chosen=math.log(p))) for p in probabilities]
    out = coloured(marks, monkeypatch, color_system=system)
    codes = [re.search(rf"\x1b\[([\d;]+)m<{p}>\x1b\[0m", out)[1] for p in probabilities]  # type: ignore[index]
    assert len(set(codes)) == len(SHADES)
    legend = out[: out.index("<1.0>")]
    assert [code in legend for code in codes] == [True] * len(SHADES)


def test_letters_can_be_read_on_their_ground() -> None:
    """Contrast as WCAG defines it, at least 4.5 to 1; lightness rises from likely to surprising."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    grounds = []
    for _, style, _ in SHADES:
        letters, ground = (luminance(colour) for colour in style.split(" on "))
        assert (max(letters, ground) + 0.05) / (min(letters, ground) + 0.05) >= 4.5
        grounds.append(ground)
    assert grounds == sorted(grounds)


def test_what_would_steer_the_terminal_is_shown_as_a_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    out = coloured([Piece("\x1b[2J\x07\r\x9b1m\tend")], monkeypatch, color_system=None)
    assert "␛[2J␇␍\ufffd1m\tend" in out
    piped, _ = played("x", Storyteller([Piece("\x1b[2J")]))
    assert "\x1b[2J" in piped  # a file gets the text as it is


def test_no_colours_where_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    made, out, _ = player("/colour on\nx", terminal=True, color_system="truecolor")
    made.play()
    assert "no colours here" in out.getvalue()
    assert not re.search(r"\x1b\[[\d;]*[34]8;", out.getvalue())


def test_going_on_shows_the_end_of_what_stands_there(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "\n".join(f"line {n} of a long text" for n in range(40))
    made, out, _ = player(f'"""{lines}"""', terminal=True, color_system=None)
    made.play()
    shown = out.getvalue()
    assert "\n… line 3" in shown
    assert "line 39 of a long texts" in shown
    assert "line 20" not in shown


# --- stopping ----------------------------------------------------------------------------------------------------


def test_ctrl_c_stops_the_text_and_not_the_program() -> None:
    class Interrupted(Storyteller):
        def before_token(self, number: int) -> None:
            if number == 3 and len(self.prompts) == 1:
                signal.raise_signal(signal.SIGINT)

    run = Interrupted()
    made, out, _ = player("/set seed 12345\nThe \n", run, terminal=True, color_system=None)
    made.play()
    assert "The s123\n" in out.getvalue()  # the token during which it came is there, too
    assert "stopped" in out.getvalue()
    assert run.prompts[1] == "The s123"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_wait_for_the_token() -> None:
    with pytest.raises(KeyboardInterrupt), stopping(True) as was_stopped:
        signal.raise_signal(signal.SIGINT)
        assert was_stopped()
        signal.raise_signal(signal.SIGINT)


def test_in_a_pipe_ctrl_c_ends_the_program() -> None:
    with pytest.raises(KeyboardInterrupt), stopping(False):
        signal.raise_signal(signal.SIGINT)


# --- editors -----------------------------------------------------------------------------------------------------


def editor(tmp_path: Path, program: str) -> str:
    """A command that does something to the file it is given."""
    script = tmp_path / "editor.py"
    script.write_text(f"import sys, pathlib\nfile = pathlib.Path(sys.argv[1])\n{program}\n", encoding="utf-8")
    return f'"{sys.executable}" "{script}"' if os.name == "posix" else f"{sys.executable} {script}"


def test_an_editor_changes_the_text(tmp_path: Path) -> None:
    program = "file.write_bytes(file.read_bytes().replace('é'.encode(), b'e') + b'\\n')"
    assert edit_with(editor(tmp_path, program), "café 🎉\ntwo") == "cafe 🎉\ntwo"
    assert edit_with(editor(tmp_path, program), "two\n") == "two\n\n"  # it had an end before


def test_an_editor_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="code 3"):
        edit_with(editor(tmp_path, "sys.exit(3)"), "x")
    with pytest.raises(UserError, match="no-such-editor"):
        edit_with("no-such-editor --wait", "x")
    with pytest.raises(UserError):
        edit_with(editor(tmp_path, "file.write_bytes(b'\\xff')"), "x")
    with pytest.raises(UserError):
        edit_with(editor(tmp_path, "file.unlink()"), "x")
    for name in ("an 'open quote", " ", "''", str(tmp_path)):
        with pytest.raises(UserError, match="/edit: "):
            edit_with(name, "x")
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path / "nothing"))
        with pytest.raises(UserError, match="/edit: "):
            edit_with(editor(tmp_path, "pass"), "x")


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_in_a_pipe(trained_run: Path) -> None:
    typed = b"/set seed 3\n/set max_new_tokens 20\nthe cat\n\n/nonsense\n/colour on\n"
    done = command("play", trained_run, stdin=typed)
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout + done.stderr
    run = glassgpt.load(trained_run, device="cpu")
    first = run.generate("the cat", seed=3, max_new_tokens=20)
    second = run.generate("the cat" + first, seed=3, max_new_tokens=20, crop_prompt=True)
    assert done.stdout.decode() == f"the cat{first}\n{second}\n".replace("\n", os.linesep)
    notes = done.stderr.decode().splitlines()
    assert notes[:2] == ["seed 3", "max_new_tokens 20"]
    assert "context of 16 tokens" in notes[2]
    assert "'/nonsense'" in notes[3] or "/nonsense: no such command" in notes[3]
    assert "no colours" in notes[4]
    assert len(notes) == 5


def test_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("play", tmp_path / "nothing") == 2
    assert "no such run folder" in capsys.readouterr().err


# A terminal sends Ctrl-C to those that it controls: the process makes it so, and becomes glassgpt.
IN_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "glassgpt", *sys.argv[1:]])
"""


class Terminal:
    """A pseudo-terminal with a command in it."""

    def __init__(self, *words: object, **environment: str):
        import pty

        self._end, inside = pty.openpty()
        usual = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "EDITOR", "VISUAL")}
        settings = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "80", "LINES": "24"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", IN_A_TERMINAL, *map(str, words)],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            env=usual | settings | environment,
        )
        os.close(inside)
        self.seen = ""

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def wait_for(self, text: str, again: str = "") -> str:
        """What came until a text was there.

        `again` is typed once more whenever nothing comes for a while: a Ctrl-C between Python's prompt and its waiting
        for keys is seen with the next key only.
        """
        import select

        waited = 0
        while text not in self.seen:
            while not select.select([self._end], [], [], 4)[0]:
                waited += 4
                assert waited < 200, f"no {text!r} in {self.seen!r}"
                self.type(again)
            self.seen += os.read(self._end, 4096).decode("utf-8", "replace")
        found, _, self.seen = self.seen.partition(text)
        return found

    def end(self, keys: str) -> int:
        """Type these until the command has ended."""
        for _ in range(50):
            with suppress(OSError):  # it has been closed
                self.type(keys)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(4)
                break
        os.close(self._end)
        return self._process.wait(0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_the_command_in_a_terminal(trained_run: Path) -> None:
    terminal = Terminal("play", trained_run)
    terminal.wait_for("/help lists the commands")
    terminal.wait_for("> ")
    terminal.type("\x03")
    terminal.wait_for("Ctrl-D or /quit leaves", again="\x03")
    terminal.type("/set max_new_tokens 100000000\r")
    terminal.wait_for("max_new_tokens 100000000")
    terminal.type("/colour on\r")
    terminal.wait_for("probability:")
    terminal.type("the cat\r")
    terminal.wait_for("the cat\x1b[0m")
    terminal.wait_for("\x1b[38;2;")
    terminal.type("\x03")
    terminal.wait_for(", stopped")
    terminal.wait_for("> ")
    terminal.type("/set max_new_tokens 8\r")
    terminal.wait_for("max_new_tokens 8")
    terminal.type("/edit\r")
    terminal.wait_for("edit> ")
    terminal.type("\x15\x0bthe dog\r")  # Ctrl-U, Ctrl-K: the whole line goes
    terminal.wait_for("an empty line goes on from here")
    terminal.type("\r")
    terminal.wait_for("the dog")
    terminal.wait_for("tokens/s")
    terminal.wait_for("> ")
    assert terminal.end("\x04") == 0
