"""Keep docs/concepts.md true: the line numbers behind names, and the places in notebooks behind headings.

    python docs/update_concepts.py            # rewrite it
    python docs/update_concepts.py --check    # say what is wrong, change nothing

In the page names count: `[`GPT.forward`](../src/glassgpt/model/gpt.py#L49)` is the definition of that name in
that file, and its number is found here; `[3 · The mask](../notebooks/3-attention.ipynb#The-mask)` is that heading.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PAGE = Path(__file__).with_name("concepts.md")
CODE = re.compile(r"\[`([\w.]+)`\]\((\.\./src/glassgpt/[\w/]+\.py)(?:#L\d+)?\)")
HEADING = re.compile(r"\[(\d) · ([^\]]+)\]\((\.\./notebooks/[\w-]+\.ipynb)(?:#[^)]*)?\)")
LINK = re.compile(r"\]\(([^)#\s]+)")


class ConceptsError(Exception):
    """Something in the page is not in the code or the notebooks; says what."""


@cache
def definitions(path: Path) -> dict[str, int]:
    """Lines of all that a file defines, by name: functions, constants, classes with what is in them or set on self."""
    found: dict[str, int] = {}

    def look(body: list[ast.stmt], owner: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[owner + node.name] = node.lineno
                if isinstance(node, ast.ClassDef):
                    look(node.body, f"{node.name}.")
                    for attribute, line in _set_on_self(node):
                        found.setdefault(f"{node.name}.{attribute}", line)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                found.update({owner + name.id: node.lineno for name in _targets(node) if isinstance(name, ast.Name)})

    look(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


def _set_on_self(owner: ast.ClassDef) -> Iterator[tuple[str, int]]:
    for node in ast.walk(owner):
        for target in _targets(node):
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                yield target.attr, target.lineno


def _targets(node: ast.AST) -> list[ast.expr]:
    """What is assigned to."""
    if isinstance(node, ast.AnnAssign):
        return [node.target]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [each for target in targets for each in (target.elts if isinstance(target, ast.Tuple) else [target])]


@cache
def headings(path: Path) -> set[str]:
    """The headings of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return set(re.findall(r"^#+ (.+)$", text, re.MULTILINE))


def _file(link: str) -> Path:
    path = PAGE.parent / link
    if not path.is_file():
        raise ConceptsError(f"there is no {link}")
    return path


def _code(found: re.Match[str]) -> str:
    name, link = found.groups()
    line = definitions(_file(link)).get(name)
    if line is None:
        raise ConceptsError(f"{link} defines no {name}")
    return f"[`{name}`]({link}#L{line})"


def _heading(found: re.Match[str]) -> str:
    number, heading, link = found.groups()
    if not Path(link).name.startswith(f"{number}-") or heading not in headings(_file(link)):
        raise ConceptsError(f"{link} has no heading {heading!r}")
    return f"[{number} · {heading}]({link}#{heading.replace(' ', '-')})"


def updated(text: str) -> str:
    """The page with every link as it should be. Raises ConceptsError for what is not there."""
    text = HEADING.sub(_heading, CODE.sub(_code, text))
    for link in LINK.findall(text):
        _file(link)
    return text


def main() -> int:
    """Update or check; the exit status."""
    text = PAGE.read_text(encoding="utf-8")
    try:
        new = updated(text)
    except ConceptsError as error:
        print(f"{PAGE.name}: {error}", file=sys.stderr)
        return 1
    if new != text and "--check" in sys.argv:
        print(f"{PAGE.name}: lines have moved: python docs/update_concepts.py", file=sys.stderr)
        return 1
    if new != text:
        PAGE.write_text(new, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
