"""`instar doctor`: what this machine offers."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from instar.cli import INTERNAL
from instar.cli.options import AsJson, examples, given_path


@examples("instar doctor", "instar doctor --output /data/runs --json")
def doctor(
    output: Annotated[
        Path, typer.Option(parser=given_path, metavar="FOLDER", help="Where runs would be written.")
    ] = Path(),
    as_json: AsJson = False,
) -> None:
    """Measure this machine: versions, device, threads, disk; with advice where something is wrong."""
    from instar.run.doctor import doctor as run

    findings = []
    for finding in run(output):
        findings.append(finding)
        if not as_json:
            typer.echo(finding)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    if any(finding.status == "FAIL" for finding in findings):
        raise typer.Exit(INTERNAL)
