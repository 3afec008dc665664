"""The table of verbs."""

from typing import Annotated

import typer

from instar import __version__
from instar.cli.chat import chat
from instar.cli.check import check
from instar.cli.demo import demo
from instar.cli.doctor import doctor
from instar.cli.evaluate import evaluate
from instar.cli.fill_mask import fill_mask
from instar.cli.generate import generate
from instar.cli.init import init
from instar.cli.lineage import lineage
from instar.cli.predict import predict
from instar.cli.probe import probe
from instar.cli.report import report
from instar.cli.schema import schema
from instar.cli.status import status
from instar.cli.tracks import tracks
from instar.cli.train import train

VERBS = (
    init,
    check,
    train,
    evaluate,
    predict,
    probe,
    generate,
    chat,
    fill_mask,
    status,
    report,
    schema,
    doctor,
    lineage,
    demo,
)


def _version(wanted: bool) -> None:  # noqa: FBT001 (typer passes the option's value)
    if wanted:
        typer.echo(f"instar {__version__}")
        raise typer.Exit


def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; works anywhere on the line.")
    ] = False,
) -> None:
    """Pretrain, adapt, fine-tune, use and look at a transformer language model.

    Start with `instar demo`, or `instar init` for a list of recipes.
    """


def _built() -> typer.Typer:
    app = typer.Typer(
        name="instar",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Exit codes: 0 done, 2 usage or run file, 65 data or checkpoint, 66 input missing, 70 internal or "
        "non-finite, 71 a limit of the system, 73 output held or not writable, 74 disk, 75 preempted, 130 interrupt.",
    )
    app.callback()(_start)
    for verb in VERBS:
        examples = getattr(verb, "examples", ())
        app.command(epilog="\n\n".join(("Examples:", *examples)) if examples else None)(verb)
    app.add_typer(tracks, name="tracks")
    return app


app = _built()
