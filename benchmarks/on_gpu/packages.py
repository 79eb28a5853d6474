"""Which packages are missing for glassgpt here, how to bring them along, and how to use them without an installation.

Nothing but Python itself is needed for this.
"""

import platform
import re
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
LARGE = ("torch", "numpy", "safetensors", "matplotlib")  # taken to be there: they are no small wheels to carry
NEEDS = {  # of the packages that may be missing, what they need themselves on Linux and Windows; a test compares
    "pydantic": ("annotated-types", "pydantic-core", "typing-extensions", "typing-inspection"),
    "pydantic-core": ("typing-extensions",),
    "typing-inspection": ("typing-extensions",),
    "cyclopts": ("attrs", "docstring-parser", "rich", "rich-rst"),
    "rich-rst": ("pygments", "rich"),
    "rich": ("markdown-it-py", "pygments"),
    "markdown-it-py": ("mdurl",),
    "pooch": ("packaging", "platformdirs", "requests"),
    "requests": ("certifi", "charset-normalizer", "idna", "urllib3"),
    "tiktoken": ("regex", "requests"),
}
PLATFORMS = {  # pip takes each name exactly as it stands
    "Linux": ("manylinux_2_28_{}", "manylinux_2_17_{}", "manylinux2014_{}", "manylinux1_{}"),
    "Windows": ("win_amd64",),
}


def requirements() -> dict[str, str]:
    """What glassgpt needs by its own word: name and version bounds, the large ones left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    split = (re.match(r"([A-Za-z0-9_.-]+)(.*)", line) for line in project["dependencies"])
    found = {normal(match[1]): match[2].strip() for match in split if match}
    return {name: bounds for name, bounds in found.items() if name not in LARGE}


def normal(name: str) -> str:
    """A package's name as all of its spellings have it in common."""
    return re.sub(r"[-_.]+", "-", name).lower()


def missing(names: Iterable[str] | None = None) -> list[str]:
    """Packages that are not here, or too old, and what those need; in the order of their names."""
    bounds = requirements()
    found: set[str] = set()
    todo = list(bounds if names is None else names)
    while todo:
        name = todo.pop()
        if name not in found and not _is_there(name, bounds.get(name, "")):
            found.add(name)
            todo.extend(NEEDS.get(name, ()))
    return sorted(found)


def all_needed() -> list[str]:
    """Every package that may have to be brought, whatever is here."""
    found, todo = set[str](), list(requirements())
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(NEEDS.get(name, ()))
    return sorted(found)


def _is_there(name: str, bounds: str) -> bool:
    try:
        installed = version(name)
    except PackageNotFoundError:
        return False
    lowest = re.search(r">=\s*([\d.]+)", bounds)
    return lowest is None or _numbers(installed) >= _numbers(lowest[1])


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def download_line(names: Sequence[str], python: str = "", folder: str = "wheels") -> str:
    """What fetches wheels of these packages for this kind of machine, on one that reaches a package index.

    pip also brings what they need themselves, in versions that fit; what is here already is not used.
    """
    python = python or ".".join(platform.python_version_tuple()[:2])
    bounds, tag = requirements(), f"cp{python.replace('.', '')}"
    platforms = [name.format(platform.machine()) for name in PLATFORMS.get(platform.system(), PLATFORMS["Linux"])]
    words = ["python3 -m pip download --only-binary=:all: --implementation cp"]
    words += [f"--python-version {python}", *(f"--abi {abi}" for abi in (tag, "abi3", "none"))]
    words += [f"--platform {name}" for name in platforms]
    words += [f"--dest {folder}", *(f"'{name}{bounds.get(name, '')}'" for name in names)]
    return " ".join(words)


def unpack(folder: Path, into: Path) -> list[str]:
    """Unpack the wheels of packages that are not here, or too old, so that `into` on Python's path has them.

    Returns:
        Their names.
    """
    bounds = requirements()
    wheels: dict[str, Path] = {}
    for wheel in sorted(folder.glob("*.whl")):
        name = normal(wheel.name.split("-")[0])
        if _fits(wheel) and not _is_there(name, bounds.get(name, "")):
            wheels[name] = wheel
    for wheel in wheels.values():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(into)
    return list(wheels)


def _fits(wheel: Path) -> bool:
    """Whether a wheel is for this Python; for this system, whoever brought it has made sure."""
    pythons, abi = wheel.stem.split("-")[-3:-1]
    mine = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return abi in ("none", "abi3") or mine in pythons.split(".")
