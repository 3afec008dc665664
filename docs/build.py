"""Regenerate what the documentation takes from the code; `--check` only compares.

docs/schema.json is the JSON Schema of run files. In README.md the lines between the marks
`<!-- rooms -->` and `<!-- /rooms -->` become the table of rooms, from the packages' docstrings.
"""

import ast
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ROOT / "src" / "instar"
MARKED = re.compile(r"(<!-- rooms -->\n).*?(<!-- /rooms -->)", re.DOTALL)


def room_table() -> str:
    """A row for each room: its name and the first line of its docstring."""
    rows = ["| room | what it does |", "|---|---|"]
    for package in sorted(ROOMS.glob("*/__init__.py")):
        said = ast.get_docstring(ast.parse(package.read_text(encoding="utf-8"))) or ""
        first = " ".join(said.split("\n\n")[0].split())
        rows.append(f"| [`{package.parent.name}`](src/instar/{package.parent.name}) | {first} |")
    return "\n".join(rows) + "\n"


def schema_text() -> str:
    """The schema as it is printed by `instar schema`."""
    from instar.config import schema
    from instar.run.config import RunConfig

    return json.dumps(schema(RunConfig), indent=2) + "\n"


def wanted() -> dict[Path, str]:
    """File -> text that it should hold."""
    readme = ROOT / "README.md"
    table = room_table()
    text = MARKED.sub(lambda match: match[1] + table + match[2], readme.read_text(encoding="utf-8"))
    return {readme: text, ROOT / "docs" / "schema.json": schema_text()}


def main(arguments: list[str]) -> int:
    """Write what differs; with `--check`, name it and return 1."""
    stale = [
        (path, text)
        for path, text in wanted().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
        sys.stderr.write(f"{'stale: run make docs' if '--check' in arguments else 'written'}: {path}\n")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
