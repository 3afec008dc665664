"""Arguments that several verbs share, and how results are shown."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from instar.core.errors import UsageError
from instar.core.files.paths import expanded

if TYPE_CHECKING:
    from instar.run.source import Part

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
Parts = Annotated[
    list[str] | None,
    typer.Option(
        "--part",
        metavar="KEY=VALUE",
        help="Of a genome (--input) read this only: chromosomes=NAME or intervals=FILE.bed; may be repeated.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value, for programs.")]


def examples(*lines: str) -> Callable[[Verb], Verb]:
    """Attach example command lines, shown at the end of the verb's help."""

    def attach(verb: Verb) -> Verb:
        verb.examples = lines  # type: ignore[attr-defined]
        return verb

    return attach


def part_of(input_file: Path | None, parts: list[str] | None) -> "Part":
    """What is read of the input; UsageError for another key, and without an input."""
    from instar.run.source import Part

    if input_file is None and parts:
        raise UsageError("--part chooses a part of a genome, which --input FILE names")
    found: dict[str, list[str]] = {"chromosomes": [], "intervals": []}
    for part in parts or ():
        key, separator, value = part.partition("=")
        if key not in found or not separator or not value:
            raise UsageError(f"--part: expected chromosomes=NAME or intervals=FILE.bed; got {part[:200]!r}")
        found[key].append(value)
    return Part(tuple(found["chromosomes"]), tuple(str(given_path(file)) for file in found["intervals"]))


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
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        if isinstance(value, list):
            text = f"\n{'':<{width}}  ".join(map(str, value)) or "none"
        typer.echo(f"{name:<{width}}  {text}")
