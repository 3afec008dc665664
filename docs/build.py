"""Regenerate what the documentation takes from the code; `--check` only compares.

docs/schema.json is the JSON Schema of run files. In README.md the lines between the marks
`<!-- rooms -->` and `<!-- /rooms -->` become the table of rooms, from the packages' docstrings. The tables of
docs/trainer-arguments.md come from the code of the arguments in the same way.
"""

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ROOT / "src" / "instar"


def room_table() -> str:
    """A row for each room: its name and the first line of its docstring."""
    rows = ["| room | what it does |", "|---|---|"]
    for package in sorted(ROOMS.glob("*/__init__.py")):
        said = ast.get_docstring(ast.parse(package.read_text(encoding="utf-8"))) or ""
        first = " ".join(said.split("\n\n")[0].split())
        rows.append(f"| [`{package.parent.name}`](src/instar/{package.parent.name}) | {first} |")
    return "\n".join(rows) + "\n"


def argument_tables() -> dict[str, str]:
    """What instar adds to the arguments of Transformers, what it refuses, and which old spellings it takes."""
    from dataclasses import fields

    from instar.api import deepspeed
    from instar.api.arguments.own import InstarArguments
    from instar.api.arguments.refused import REFUSALS
    from instar.api.arguments.spelling import SPELLINGS

    own = [f"| `{field.name}` | `{field.default!r}` | {field.metadata['help']} |" for field in fields(InstarArguments)]
    refused = [f"| `{refusal.field}` | {refusal.value} | {refusal.reason} |" for refusal in REFUSALS]
    old = [f"| `{name}` | {_now(spelling)} |" for name, spelling in sorted(SPELLINGS.items())]
    keys = [f"| `{key}` | {reason} |" for key, reason in sorted(deepspeed.REFUSED.items())]
    return {
        "own": _table("argument", "default", "what it promises", rows=own),
        "refused": _table("argument", "value", "why", rows=refused),
        "spellings": _table("old", "what to write", rows=old),
        "deepspeed": _table("key", "why it is refused", rows=keys),
    }


def _now(spelling: Any) -> str:
    refused = f"; refused when it asks for something: {spelling.refused}" if spelling.refused else ""
    return f"{spelling.now}{refused}"


def _table(*titles: str, rows: list[str]) -> str:
    return "\n".join([f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}", *rows]) + "\n"


def marked(text: str, name: str, content: str) -> str:
    """The text with other content between the marks of that name."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda match: match[1] + content + match[2], text)


def schema_text() -> str:
    """The schema as it is printed by `instar schema`."""
    from instar.config import schema
    from instar.run.config import RunConfig

    return json.dumps(schema(RunConfig), indent=2) + "\n"


def wanted() -> dict[Path, str]:
    """File -> text that it should hold."""
    readme, arguments = ROOT / "README.md", ROOT / "docs" / "trainer-arguments.md"
    page = arguments.read_text(encoding="utf-8")
    for name, content in argument_tables().items():
        page = marked(page, name, content)
    return {
        readme: marked(readme.read_text(encoding="utf-8"), "rooms", room_table()),
        arguments: page,
        ROOT / "docs" / "schema.json": schema_text(),
    }


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
