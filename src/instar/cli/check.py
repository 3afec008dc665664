"""`instar check`: everything short of training."""

from instar.cli.options import AsJson, Overrides, RunFile, examples


@examples("instar check run.yaml", "instar check run.yaml train.batch_tokens=4096 --json")
def check(run_file: RunFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check a run file and its data, show three samples, estimate memory and time; train nothing."""
    from instar.run.check import check as run

    run(run_file, overrides or (), as_json=as_json)
