"""`instar init`: begin with a recipe."""

import json
import re
from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from instar.cli.options import AsJson, examples, given_path
from instar.core.errors import OutputError, UsageError


def recipes() -> dict[str, Traversable]:
    """Name -> file of every recipe in the package, by name."""
    folder = files("instar") / "recipes"
    entries = list(folder.iterdir()) if folder.is_dir() else []
    found = {entry.name.removesuffix(".yaml"): entry for entry in entries if entry.name.endswith(".yaml")}
    return dict(sorted(found.items()))


def _summary(recipe: Traversable) -> str:
    """The first sentence of a recipe's opening comment."""
    lines = (line.lstrip("# ").strip() for line in recipe.read_text(encoding="utf-8").splitlines() if line[:1] == "#")
    text = " ".join(line for line in lines if line and "$schema" not in line)
    return re.split(r"(?<=[.?!])\s", text, maxsplit=1)[0]


def _complete(begun: str) -> list[str]:
    return [name for name in recipes() if name.startswith(begun)]


@examples("instar init", "instar init NAME", "instar init NAME --output my.yaml")
def init(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="The recipe; without it, all are listed.", autocompletion=_complete),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(parser=given_path, metavar="FILE", help="Where to write; NAME.yaml if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes, or write one, with its comments, as a run file of your own."""
    known = recipes()
    if name is None:
        _list(known, as_json=as_json)
        return
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"wanted one of the recipes {', '.join(known) or '(there are none)'}; got {name!r}{hint}")
    target = output or Path(f"{name}.yaml")
    _write(target, known[name].read_bytes())
    typer.echo(json.dumps({"recipe": name, "file": str(target)}) if as_json else str(target))
    typer.echo(f"next: instar check {target}", err=True)


def _list(known: dict[str, Traversable], *, as_json: bool) -> None:
    summaries = {name: _summary(recipe) for name, recipe in known.items()}
    if as_json:
        typer.echo(json.dumps(summaries))
        return
    width = max(map(len, known), default=0)
    for name, summary in summaries.items():
        typer.echo(f"{name:<{width}}  {summary}")


def _write(target: Path, content: bytes) -> None:
    try:
        with target.open("xb") as file:
            file.write(content)
    except FileExistsError as error:
        raise OutputError(f"{target}: already there and left as it is; name another file with --output") from error
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror}") from error
