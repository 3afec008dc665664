"""`instar check`: everything short of training."""

import typer

from instar.cli.options import AsJson, Overrides, RunFile, examples, show


@examples("instar check run.yaml", "instar check run.yaml train.batch_tokens=4096 --json")
def check(run_file: RunFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check a run file and its data, show three samples, estimate memory and time; train nothing."""
    from instar.run.check import check as run
    from instar.run.check import describe

    found = run(run_file, overrides or ())
    if as_json:
        show(found, as_json=True)
        return
    for line in describe(found):
        typer.echo(line)
