"""Corpora by name: pinned by SHA-256, fetched once, or found where `GLASSGPT_DATA` says."""

import os
from dataclasses import dataclass
from pathlib import Path

from glassgpt.data.caches import in_cache
from glassgpt.errors import UserError
from glassgpt.paths import expand
from glassgpt.reading import sha256_of


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
        return _own_file(name, corpus, expand(own_folder))
    fetched = in_cache("", lambda folder: _fetch(name, corpus, folder))
    if isinstance(fetched, UserError):
        raise fetched
    return fetched


def _own_file(name: str, corpus: Corpus, folder: Path) -> Path:
    """The file of a corpus in the folder that `GLASSGPT_DATA` names.

    Raises:
        UserError: there is no such folder or file, or it is another text.
    """
    if not folder.is_dir():
        raise UserError(f"GLASSGPT_DATA: {folder}: no such folder: name the folder with {corpus.filename}, or unset it")
    file = folder / corpus.filename
    if not file.exists():
        raise UserError(
            f"GLASSGPT_DATA: {folder}: no {corpus.filename} (the corpus {name!r}) in this folder: put it there, or "
            "unset GLASSGPT_DATA to have it fetched"
        )
    if sha256_of(file) != corpus.sha256:
        raise UserError(f"{file}: not the corpus {name!r} (its SHA-256 differs): remove it, or use --data {file}")
    return file


def _fetch(name: str, corpus: Corpus, cache: Path) -> Path | UserError:
    """The file of a corpus in a folder, fetched if it is not there; or what is wrong with the network or the text.

    Raises:
        OSError: the folder cannot be written.
    """
    import pooch
    import requests
    from rich.console import Console

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
    except (requests.RequestException, ConnectionError, TimeoutError) as error:
        return UserError(
            f"corpus {name!r}: could not be fetched from {corpus.url} ({type(error).__name__}): "
            f"put it as {corpus.filename} into a folder and name that folder in GLASSGPT_DATA"
        )
    except ValueError:  # pooch's word for a wrong hash
        return UserError(f"corpus {name!r}: what {corpus.url} now serves is another text (its SHA-256 differs)")
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
