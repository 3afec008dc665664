"""`instar tracks`: values of characters in and out of files, by annotation, and in a genome browser."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from instar.cli.options import AsJson, folder, given_path, show

Run = Annotated[
    Path, typer.Argument(parser=given_path, metavar="RUN", help="A run folder, or what `instar probe` wrote.")
]
What = Annotated[
    Literal["value", "p_true", "age"],
    typer.Option(help="The stored value, the probability of the right base, or the step of the last look."),
]
AliasFile = Annotated[
    Path | None,
    typer.Option(
        "--aliases", parser=given_path, metavar="FILE", help="Other names of chromosomes: rows separated by tabs."
    ),
]
AnnotationFile = Annotated[
    Path, typer.Option("--annotation", parser=given_path, metavar="FILE", help="GFF3, GTF or BED, packed or not.")
]

GenomeFile = Annotated[
    Path | None,
    typer.Option(
        "--genome", parser=given_path, metavar="FILE", help="The file of the training data whose sequences are meant."
    ),
]


def _show(result: dict[str, Any], *, as_json: bool) -> None:
    """The result; for a reader what is to be noticed goes to stderr, as a line each."""
    if not as_json:
        for line in result.pop("notices"):
            typer.echo(line, err=True)
    show(result, as_json=as_json)


def _export(
    run: Run,
    output: Annotated[Path, typer.Option(parser=folder, metavar="FOLDER", help="The tracks are written here.")],
    form: Annotated[
        Literal["bedgraph", "bigwig", "hdf5"], typer.Option("--format", help="hdf5: shards of samples.")
    ] = "bigwig",
    what: What = "value",
    *,
    shard: Annotated[int | None, typer.Option(min=1, metavar="N", help="Samples of a shard; default: 2562.")] = None,
    genome: GenomeFile = None,
    as_json: AsJson = False,
) -> None:
    """Write the masking values of a run as tracks."""
    from instar.tracks.transfer import export

    _show(export(run, output, file_format=form, what=what, shard=shard, genome=genome), as_json=as_json)


def _import(
    run: Annotated[
        Path, typer.Argument(parser=given_path, metavar="RUN", help="A run file, or a run folder without values.")
    ],
    given: Annotated[
        Path,
        typer.Option(
            "--input",
            parser=given_path,
            metavar="FILE",
            help="bedGraph, wiggle, bigWig, or a folder of HDF5 shards; 0 to 1.",
        ),
    ],
    shard: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Samples of an HDF5 shard, where the shards do not record it."),
    ] = None,
    genome: GenomeFile = None,
    as_json: AsJson = False,
) -> None:
    """Begin a run's masking values from a track."""
    from instar.tracks.transfer import import_values

    _show(import_values(run, given, shard=shard, genome=genome), as_json=as_json)


def _summary(
    run: Run,
    annotation: AnnotationFile,
    *,
    what: What = "value",
    aliases: AliasFile = None,
    genome: GenomeFile = None,
    as_json: AsJson = False,
) -> None:
    """Mean value of the bases of each class of features, with counts."""
    from instar.tracks.transfer import summary

    rows = summary(
        run, annotation, what=what, aliases=aliases, genome=genome, log=lambda line: typer.echo(line, err=True)
    )
    if as_json:
        finite = [{name: None if value != value else value for name, value in row.items()} for row in rows]  # noqa: PLR0124
        typer.echo(json.dumps(finite))
        return
    width = max(14, *(len(row["track"]) + 2 for row in rows))
    typer.echo(f"{'track':<{width}}{'class':<28}{'features':>10}{'bases':>14}{'known':>14}{'mean':>9}")
    for row in rows:
        numbers = f"{row['num_features']:>10,}{row['num_bases']:>14,}{row['num_known']:>14,}{row['mean']:>9.4f}"
        typer.echo(f"{row['track']:<{width}}{row['kind'][:27]:<28}{numbers}")


def _view(
    run: Run,
    *,
    region: Annotated[
        str | None, typer.Option(metavar="chrI:1000-9000", help="Counted from 0, the end not included.")
    ] = None,
    annotation: Annotated[
        Path | None,
        typer.Option("--annotation", parser=given_path, metavar="FILE", help="GFF3, GTF or BED, packed or not."),
    ] = None,
    aliases: AliasFile = None,
    genome: GenomeFile = None,
    output: Annotated[
        Path | None, typer.Option(parser=given_path, metavar="FILE.html", help="Default: tracks/ in the run folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one page with a genome browser that needs no network."""
    from instar.tracks.transfer import Shown, view

    shown = Shown(region=region, annotation=annotation, aliases=aliases, genome=genome, output=output)
    _show(view(run, shown), as_json=as_json)


tracks = typer.Typer(no_args_is_help=True, help="Masking values as genome tracks: files, sums, a browser.")
for _name, _verb, _example in (
    ("export", _export, "instar tracks export runs/dna --output tracks --format bigwig"),
    ("import", _import, "instar tracks import new.yaml --input tracks/one_minus_p.bw"),
    ("summary", _summary, "instar tracks summary runs/dna --annotation genes.gff3"),
    ("view", _view, "instar tracks view runs/dna --region chrI:1000-9000 --annotation genes.gff3"),
):
    tracks.command(name=_name, epilog=f"Examples:\n\n{_example}")(_verb)
