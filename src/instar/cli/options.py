"""Arguments that several verbs share, and how results are shown."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from instar.core.paths import expanded

Verb = TypeVar("Verb", bound=Callable[..., Any])


def given_path(text: str | Path) -> Path:
    """A path as it was given, with `~` and `$NAME` replaced; `./~x` stays the name that begins with `~`."""
    try:
        found = Path(expanded(str(text)))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return found.absolute() if str(found).startswith("~") else found


def folder(text: str | Path) -> Path:
    """A path that was given; an empty text, as of an unset shell variable, is an error and not this folder."""
    if not str(text).strip():
        raise typer.BadParameter("wanted a folder; came an empty text; write . for this folder")
    return given_path(text)


RunFile = Annotated[Path, typer.Argument(parser=given_path, metavar="RUN.yaml", help="The run file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Values in place of the file's, like train.optimizer.lr=1e-4."),
]
Checkpoint = Annotated[Path, typer.Argument(parser=given_path, metavar="CHECKPOINT", help="A checkpoint folder.")]
Model = Annotated[
    Path,
    typer.Argument(
        parser=given_path,
        metavar="CHECKPOINT",
        help="A checkpoint folder; or a model folder in Transformers' layout: config.json, safetensors, tokenizer.",
    ),
]


AllowUnknown = Annotated[
    bool, typer.Option("--allow-unknown-tokens", help="Go on although half of the tokens or more are unknown.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value, for programs.")]


def examples(*lines: str) -> Callable[[Verb], Verb]:
    """Attach example command lines, shown at the end of the verb's help."""

    def attach(verb: Verb) -> Verb:
        verb.examples = lines  # type: ignore[attr-defined]
        return verb

    return attach


def show(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a result on stdout: one JSON object (a number that is not finite is null), or a line for each value.

    The items of a list stand below each other.
    """
    if as_json:
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in result.items()
        }
        typer.echo(json.dumps(finite, default=str, allow_nan=False))
        return
    width = max(map(len, result), default=0)
    for name, value in result.items():
        told = f"{value:.6g}" if isinstance(value, float) else str(value)
        if isinstance(value, list):
            told = f"\n{'':<{width}}  ".join(map(str, value)) or "none"
        typer.echo(f"{name:<{width}}  {told}")
