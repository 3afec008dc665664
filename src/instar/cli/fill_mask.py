"""`instar fill-mask`: what may stand where a text shows [MASK]."""

from typing import Annotated

import typer

from instar.cli.options import AsJson, Model, examples, show


@examples(
    'instar fill-mask runs/text/checkpoint-500 "the state of the [MASK]"',
    "instar fill-mask runs/dna/checkpoint-500 ACGT[MASK]ACGT --top 4 --json",
)
def fill_mask(
    checkpoint: Model,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A text with one or more [MASK].")],
    top: Annotated[int, typer.Option(metavar="N", help="How many fills of each position are shown.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Fill in the [MASK]s of a text or a sequence, with probabilities."""
    from instar.use.fill_mask import fill_mask as run

    found = run(checkpoint, text, top=top)
    if as_json:
        show(found, as_json=True)
        return
    typer.echo(found["filled"])
    for number, fills in enumerate(found["fills"], start=1):
        shown = "  ".join(f"{fill['token']} {fill['probability']:.3f}" for fill in fills)
        typer.echo(f"[MASK] {number}:  {shown}")
