"""Make the notebooks from the scripts: `python examples/build.py`; `--check` only compares."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPTS = sorted(path for path in HERE.glob("*.py") if path.name != "build.py")


def cells(script: str) -> Iterator[tuple[str, str]]:
    """(markdown or code, text) of each part of a script between `# %%` marks."""
    for part in script.split("# %%")[1:]:
        head, _, text = part.partition("\n")
        if "[markdown]" in head:
            yield "markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.strip().splitlines())
        else:
            yield "code", text.strip()


def notebook(script: str) -> str:
    """The same as a notebook (nbformat 4.5), without outputs."""
    found = []
    for number, (kind, text) in enumerate(cells(script)):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        found.append(cell | {"source": text.splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": found, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1) + "\n"


def main(arguments: list[str]) -> int:
    """Write what differs; with `--check`, name it and return 1."""
    stale = []
    for script in SCRIPTS:
        target, text = script.with_suffix(".ipynb"), notebook(script.read_text(encoding="utf-8"))
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            stale.append(target)
            if "--check" not in arguments:
                target.write_text(text, encoding="utf-8")
    for path in stale:
        sys.stderr.write(f"{path.name}: {'differs from its script' if '--check' in arguments else 'written'}\n")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
