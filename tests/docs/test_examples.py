"""The examples run, as scripts and as notebooks, and say the same."""

import json
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path for path in EXAMPLES.glob("*.py") if path.name != "build.py")


def test_notebooks_are_made_from_the_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "build", raising=False)
    import build

    assert build.main(["--check"]) == 0
    for script in SCRIPTS:
        cells = list(build.cells(script.read_text()))
        code = "\n".join(text for kind, text in cells if kind == "code")
        plain = "\n".join(line for line in script.read_text().splitlines() if line and not line.startswith("#"))
        assert [line for line in code.splitlines() if line] == plain.splitlines(), "a notebook has the whole script"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_runs_cell_by_cell(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    cells = json.loads(script.with_suffix(".ipynb").read_text())["cells"]
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{script.stem}:{cell['id']}", "exec"), names)
