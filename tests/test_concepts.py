"""docs/concepts.md: every link leads to what it says, and the course and the page know the same words."""

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "concepts.md"
SCRIPT = runpy.run_path(str(ROOT / "docs" / "update_concepts.py"))
ROW = re.compile(r"^\| (?!concept|--)(.+) \|$", re.MULTILINE)


def rows() -> list[list[str]]:
    return [row.split(" | ") for row in ROW.findall(PAGE.read_text(encoding="utf-8"))]


def test_every_link_leads_to_what_it_names() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert SCRIPT["updated"](text) == text, "lines have moved: python docs/update_concepts.py"


def test_the_lines_linked_to_define_what_is_named() -> None:
    """Not by the script's own way of reading code."""
    links = re.findall(r"\[`([\w.]+)`\]\(\.\./(src/[\w/]+\.py)#L(\d+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(links) > 100
    for name, path, number in links:
        line = (ROOT / path).read_text(encoding="utf-8").splitlines()[int(number) - 1]
        assert re.match(rf"\s*(def |class |self\.|self\..* self\.)?{name.split('.')[-1]}\b", line), (name, path, line)


def test_every_link_is_of_a_kind_that_is_checked() -> None:
    text = PAGE.read_text(encoding="utf-8")
    checked = len(SCRIPT["CODE"].findall(text)) + len(SCRIPT["HEADING"].findall(text))
    others = [link for link in SCRIPT["LINK"].findall(text) if not link.endswith((".py", ".ipynb"))]
    assert checked + len(others) == len(SCRIPT["LINK"].findall(text))


def test_each_row_has_code_and_no_concept_stands_twice() -> None:
    assert all(len(row) == 5 and "../src/" in row[2] for row in rows())
    concepts = [row[0] for row in rows()]
    assert len(concepts) > 90
    assert len(set(concepts)) == len(concepts)


def test_pictures_are_in_the_notebook_beside_them() -> None:
    named = [(row[3], row[4].strip(" *")) for row in rows() if row[4].startswith("*")]
    assert len(named) > 10
    for course, title in named:
        found = re.search(r"\.\./(notebooks/[\w-]+\.ipynb)", course)
        assert found, title
        cells = json.loads((ROOT / found[1]).read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        assert title in code, (found[1], title)


def test_most_of_the_course_is_on_the_map() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert text.count(f"../notebooks/{path.name}#") >= 4, f"{path.name} is hardly in docs/concepts.md"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("[`GPT.backward`](../src/glassgpt/model/gpt.py#L1)", "defines no GPT.backward"),
        ("[`GPT`](../src/glassgpt/model/gtp.py#L1)", "there is no ../src/glassgpt/model/gtp.py"),
        ("[1 · No such](../notebooks/1-tokens.ipynb)", "no heading 'No such'"),
        ("[a picture](images/none.png)", "there is no images/none.png"),
    ],
)
def test_a_wrong_link_is_named(wrong: str, said: str) -> None:
    with pytest.raises(SCRIPT["ConceptsError"], match=re.escape(said)):
        SCRIPT["updated"](wrong)


def test_a_line_that_moved_is_found_again() -> None:
    moved = "[`GPT.forward`](../src/glassgpt/model/gpt.py#L1)"
    line = SCRIPT["updated"](moved).split("#L")[1].rstrip(")")
    source = (ROOT / "src/glassgpt/model/gpt.py").read_text(encoding="utf-8").splitlines()
    assert source[int(line) - 1].startswith("    def forward(")
