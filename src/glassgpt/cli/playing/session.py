"""A session of playing, without its terminal: texts, how each came about, settings, and the way back."""

import json
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from secrets import randbits
from typing import TYPE_CHECKING, Any, Protocol, get_origin

from glassgpt.cli.playing.own_files import OwnFiles
from glassgpt.cli.playing.texts import (
    BETWEEN_TEXTS,
    Mark,
    PlaySettings,
    SavedSession,
    Text,
    Typed,
    Written,
    characters,
    parse_session,
    session_files,
    setting_names,
    text_of,
)
from glassgpt.data.decoding import unescaped
from glassgpt.errors import UserError, suggest
from glassgpt.generation.config import SamplingConfig
from glassgpt.reading import parse_json, read_text

if TYPE_CHECKING:
    from glassgpt.generation.engine import FinishReason
    from glassgpt.generation.text import Generation, Piece
    from glassgpt.tokenizers import Tokenizer


class Playable(Protocol):
    """What a session asks of a loaded run."""

    @property
    def tokenizer(self) -> "Tokenizer":
        """What cuts its texts."""

    @property
    def block_size(self) -> int:
        """The most tokens that the model looks at."""

    def sampling(self) -> SamplingConfig:
        """The recipe's settings."""

    def prompt(self, prompt: str | None) -> str:
        """The recipe's beginning."""

    def pieces(
        self, prompt: str, *, seed: int, crop_prompt: bool, logprobs: int, **settings: Any
    ) -> "Generator[Piece, None, Generation]":
        """Text after a prompt, token by token."""


@dataclass(frozen=True)
class Writing:
    """A text that is being written.

    Attributes:
        before: what it goes on from.
        marks: its pieces as they come; at tokens whose text is still held back, an empty one.
    """

    before: Text
    marks: Generator[Mark, None, None]


class Session:
    """Texts that a person begins and a model continues.

    Nothing changes before the first piece is written, so a beginning that the model refuses leaves the session as it
    was; what stops a writing early (`marks.close()`) keeps what was written until then.

    Attributes:
        settings: for the next text to be written.
        texts: all that were begun and not taken back; the last is the one that is played with.
    """

    def __init__(self, run: Playable, name: str = "", tell: Callable[[str], None] = lambda _: None):
        self._run, self._name, self._tell = run, name, tell
        self.settings = PlaySettings.parse(run.sampling().model_dump(exclude={"prompt"}))
        self.texts: tuple[Text, ...] = ()
        self._before: list[tuple[Text, ...]] = []  # what `undo` goes back to
        self._files = OwnFiles()
        self._told_of_cropping = False

    @property
    def parts(self) -> Text:
        """The parts of the last text."""
        return self.texts[-1] if self.texts else ()

    @property
    def text(self) -> str:
        """The last text."""
        return text_of(self.parts)

    # --- writing -------------------------------------------------------------------------------------------------

    def begin(self, beginning: str) -> Writing:
        """Begin a text of its own, and write on from there."""
        return self._write((Typed(typed=characters(beginning)),), self.texts)

    def add(self, words: str) -> Writing:
        """Put words behind the text, and write on from there."""
        return self._write((*self.parts, Typed(typed=characters(words))), self.texts[:-1])

    def more(self) -> Writing:
        """Write on; where there is no text yet, from the recipe's beginning."""
        if not self.texts:
            return self.begin(self._run.prompt(None))
        return self._write(self.parts, self.texts[:-1])

    def retry(self) -> Writing:
        """Write what was written last once more: with another seed, or by the settings as they are now.

        Raises:
            UserError: there is no text.
        """
        if not self.texts:
            raise UserError("/retry: there is no text yet: type a beginning")
        last = self.parts[-1] if self.parts else None
        if not isinstance(last, Written):
            return self.more()
        seed = self.settings.seed
        if seed is None and self.settings.temperature > 0:
            while (seed := _any_seed()) == last.settings.seed:
                pass
        elif self._is_repetition(last):
            fixed = "temperature 0 has no chance in it" if seed is None else f"the seed is fixed at {seed}"
            self._tell(f"{fixed}, and nothing has changed: the same text again (see /help)")
        return self._write(self.parts[:-1], self.texts[:-1], seed)

    def _is_repetition(self, last: Written) -> bool:
        """Whether the settings as they are give the text that is there."""
        same_seed = self.settings.temperature == 0 or last.settings.seed == self.settings.seed
        same = last.settings.replace(seed=None) == self.settings.replace(seed=None)
        return same and same_seed and last.finish_reason != "interrupted"

    def _write(self, parts: Text, others: tuple[Text, ...], seed: int | None = None) -> Writing:
        return Writing(parts, self._marks(parts, others, seed))

    def _marks(self, parts: Text, others: tuple[Text, ...], seed: int | None) -> Generator[Mark, None, None]:
        seed = next(number for number in (seed, self.settings.seed, _any_seed()) if number is not None)
        settings = self.settings.replace(seed=seed)
        prompt = text_of(parts)
        self._tell_of_cropping(prompt)
        sampling = settings.model_dump(exclude={"seed"})
        pieces = self._run.pieces(prompt, seed=seed, crop_prompt=True, logprobs=0, **sampling)
        marks: list[Mark] = []
        reason: FinishReason | None = None
        try:
            reason = yield from _collect(pieces, marks)
        finally:
            pieces.close()
            if marks or reason is not None:
                self._before.append(self.texts)
                written = Written(marks=tuple(marks), settings=settings, finish_reason=reason or "interrupted")
                self.texts = (*others, (*parts, written))

    def _tell_of_cropping(self, prompt: str) -> None:
        if not self._told_of_cropping and len(self._run.tokenizer.encode(prompt)) > self._run.block_size:
            self._told_of_cropping = True
            self._tell(
                f"longer than the model's context of {self._run.block_size} tokens: it looks at the end of the text"
            )

    # --- changing ------------------------------------------------------------------------------------------------

    def undo(self) -> None:
        """Go back to the texts as they were before the last change.

        Raises:
            UserError: there is nothing to undo.
        """
        if not self._before:
            raise UserError("/undo: nothing has been written yet")
        self.texts = self._before.pop()

    def edit(self, text: str) -> bool:
        """Put another text in the place of the last one; True if it differs. Parts in front of the change are kept."""
        text = characters(text)
        if text == self.text:
            return False
        kept: Text = ()
        for part in self.parts:
            if not text.startswith(text_of((*kept, part))):
                break
            kept = (*kept, part)
        rest = text[len(text_of(kept)) :]
        self._before.append(self.texts)
        self.texts = (*self.texts[:-1], (*kept, *((Typed(typed=rest),) if rest else ())))
        return True

    def set(self, name: str, value: str) -> None:
        r"""Change a setting, given as text; `none` for none. In a stop string, `\n` means a newline.

        Raises:
            UserError: there is no such setting, or the value is none for it.
        """
        field = self.find_setting(name)
        is_list = get_origin(PlaySettings.model_fields[field].annotation) is list
        given: Any = value
        if value == "none":
            given = [] if is_list else None
        elif is_list and value[:1] in ('"', "["):
            given = _from_json(field, value)
        elif is_list:
            given = unescaped(value)
        self.settings = self.settings.replace(**{field: given})

    def find_setting(self, name: str) -> str:
        """The field that a name means, with dashes or underscores.

        Raises:
            UserError: there is none.
        """
        field = name.lower().replace("-", "_")
        if field not in setting_names():
            raise UserError(f"{name}: no such setting, {suggest(field, setting_names())}")
        return field

    # --- files ---------------------------------------------------------------------------------------------------

    def save(self, name: str) -> tuple[Path, Path]:
        """Write the texts to NAME.txt, and all that `load` needs to NAME.json; return both paths.

        Raises:
            UserError: they cannot be written, or are there and not this session's own.
        """
        text_file, data_file = session_files(name)
        saved = SavedSession(run=self._name, settings=self.settings, texts=self.texts)
        contents = {
            data_file: json.dumps(saved.model_dump()) + "\n",  # indented, each number would take a line
            text_file: self._as_text(),
        }
        self._files.write(contents)
        return text_file, data_file

    def _as_text(self) -> str:
        return BETWEEN_TEXTS.join(map(text_of, self.texts)) + "\n"

    def load(self, name: str) -> None:
        """Go on with a session that was saved; `undo` brings back the texts that were here.

        Raises:
            UserError: there is no such file, or it is damaged.
        """
        text_file, data_file = session_files(name)
        content = read_text(data_file, "a session that /save wrote")
        saved = parse_session(content, data_file)
        self._before.append(self.texts)
        self.texts, self.settings = saved.texts, saved.settings
        self._files.know(data_file, content)
        self._files.know(text_file, self._as_text())  # which is another's if it holds anything else
        if saved.run != self._name:
            self._tell(f"written with {saved.run}: this run goes on with it")


def _collect(pieces: "Generator[Piece, None, Generation]", marks: list[Mark]) -> Generator[Mark, None, "FinishReason"]:
    """Yield marks as they come and collect them; at tokens whose text is still held back, an empty one."""
    least: float | None = None
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            generation: Generation = end.value
            return generation.finish_reason
        if piece.logprobs is not None:
            least = min(1.0 if least is None else least, math.exp(piece.logprobs.chosen))
        text = characters(piece.text)
        if text:
            marks.append((text, least if least is None else round(least, 5)))
            least = None
        yield marks[-1] if text else ("", None)


def _any_seed() -> int:
    return randbits(31)


def _from_json(field: str, value: str) -> Any:
    try:
        return parse_json(value)
    except ValueError:
        raise UserError(rf'{field}: not readable: one string as it is, or as JSON: "\n", ["END", "\n"]') from None
