"""Corpora by name: pinned by SHA-256, fetched once, or found where `GLASSGPT_DATA` says."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from glassgpt.errors import UserError
from glassgpt.files import cache_folder


@dataclass(frozen=True)
class Corpus:
    """A text that has a name.

    Attributes:
        what: one line about it.
        filename: its name in the cache folder and in `GLASSGPT_DATA`.
        url: where it is fetched from.
        sha256: of its bytes; anything else is refused.
        distinct_characters: the size of its character vocabulary, known without fetching it.
    """

    what: str
    filename: str
    url: str
    sha256: str
    distinct_characters: int


CORPORA = {
    "shakespeare": Corpus(
        what="Tiny Shakespeare, 1,115,394 characters of plays",
        filename="tinyshakespeare.txt",
        url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        distinct_characters=65,
    ),
    "pooh": Corpus(
        what="Winnie-the-Pooh, the first six chapters",
        filename="winnie-the-pooh.txt",
        url="https://raw.githubusercontent.com/Akhan521/GPT-From-Scratch/main/data/training_text.txt",
        sha256="1e4cd1a3439633029264f2fcc08e9059d354fa923957a6f598160cc2d1c76bee",
        distinct_characters=66,
    ),
}
PYTHON_REFERENCE = "python-reference"
NAMES = (PYTHON_REFERENCE, *CORPORA)


def python_reference() -> str:
    """The Python language reference as prose, from the running interpreter: no download, on every machine.

    About 465,000 characters; it differs from one Python version to the next.

    Raises:
        UserError: this Python was packaged without it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise UserError(
            f"{PYTHON_REFERENCE}: this Python comes without pydoc_data: name another text with --data"
        ) from None

    return "\n\n".join(topics[name].strip() for name in sorted(topics)) + "\n"


def corpus_file(name: str) -> Path:
    """The file of a corpus: from the folder `GLASSGPT_DATA`, from the cache, or fetched into the cache.

    Raises:
        UserError: it cannot be fetched, or what is there has another hash.
    """
    corpus = CORPORA[name]
    own_folder = os.environ.get("GLASSGPT_DATA")
    if own_folder:
        file = Path(own_folder) / corpus.filename
        if file.is_file():
            if hashlib.sha256(file.read_bytes()).hexdigest() != corpus.sha256:
                raise UserError(
                    f"{file}: not the corpus {name!r} (its SHA-256 differs): remove it, or use --data {file}"
                )
            return file
    return _fetch(name, corpus)


def _fetch(name: str, corpus: Corpus) -> Path:
    import pooch
    from rich.console import Console

    cache = cache_folder()
    if not (cache / corpus.filename).exists():
        Console(stderr=True).print(f"fetching {name} ({corpus.what}) from {corpus.url}", highlight=False)
    pooch.get_logger().setLevel("ERROR")  # one line of ours is enough
    try:
        fetched = pooch.retrieve(
            corpus.url,
            known_hash=f"sha256:{corpus.sha256}",
            fname=corpus.filename,
            path=cache,
            downloader=pooch.HTTPDownloader(progressbar=_Progress(name), timeout=30),
        )
    except ValueError:  # pooch's word for a wrong hash
        raise UserError(
            f"corpus {name!r}: what {corpus.url} now serves is another text (its SHA-256 differs)"
        ) from None
    except OSError as error:  # requests' errors are OSErrors
        raise UserError(
            f"corpus {name!r}: could not be fetched from {corpus.url} ({type(error).__name__}): "
            f"put it as {corpus.filename} into a folder and name that folder in GLASSGPT_DATA"
        ) from None
    return Path(fetched)


class _Progress:
    """What pooch asks of a progress bar, as a rich one."""

    def __init__(self, name: str):
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task(name, total=None)
        self._bar.start()

    @property
    def total(self) -> int:
        return int(self._bar.tasks[0].total or 0)

    @total.setter
    def total(self, value: int) -> None:
        self._bar.update(self._task, total=value)

    def update(self, amount: int) -> None:
        self._bar.advance(self._task, amount)

    def reset(self) -> None:
        self._bar.update(self._task, completed=0)

    def close(self) -> None:
        self._bar.stop()
