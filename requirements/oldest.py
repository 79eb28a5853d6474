"""Print the oldest version of each package that users may have, as constraints for pip: `make test-oldest`.

They are the lower bounds in pyproject.toml, of the dependencies and of all extras but `dev`.
"""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def lower_bounds() -> dict[str, str]:
    """The lower bound of each package that users install, by its name."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for name in extras if name != "dev" for line in extras[name])]
    found = [re.match(r"([\w-]+)>=([\w.]+)", line) for line in wanted if not line.startswith("glassgpt[")]
    assert all(found), "a package without a lower bound"
    return {match[1]: match[2] for match in found if match}


if __name__ == "__main__":
    for name, version in lower_bounds().items():
        print(f"{name}=={version}")
