"""`instar generate`: continuations of texts."""

from pathlib import Path
from typing import Annotated

import typer

from instar.cli.launched import CommandLineError
from instar.cli.options import AllowUnknown, AsJson, Model, examples, given_path, show


@examples(
    'instar generate runs/gpt/checkpoint-1000 "The state of the" temperature=0.8 top_p=0.95',
    'instar generate runs/gpt/checkpoint-1000 "My fellow" num_beams=4 log_probabilities=true --json',
    "instar generate runs/gpt/checkpoint-1000 --input prompts.txt --output texts.jsonl max_new_tokens=100",
)
def generate(
    checkpoint: Model,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROMPT] [KEY=VALUE]...",
            help="The prompt (not with --input); then values of decoding: max_new_tokens, temperature, top_k, top_p, "
            "min_p, repetition_penalty, num_beams, stop, stop_ids, seed, log_probabilities, too_long, batch_tokens.",
        ),
    ] = None,
    *,
    input_file: Annotated[
        Path | None,
        typer.Option("--input", parser=given_path, metavar="FILE", help="A prompt a line, or a column of a table."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", parser=given_path, metavar="FILE.jsonl", help="One JSON object a line is written here."
        ),
    ] = None,
    allow_unknown: AllowUnknown = False,
    as_json: AsJson = False,
) -> None:
    """Continue a prompt, as it is written; or all prompts of a file, in batches."""
    from instar.use.generate import generate as run
    from instar.use.generate import generate_file

    given = list(words or ())
    if (input_file is None) != (output is None):
        raise CommandLineError("--input and --output go together: a file of prompts, and where their texts are written")
    if input_file is not None and output is not None:
        show(
            generate_file(
                checkpoint,
                input_file=input_file,
                output=output,
                overrides=given,
                log=_log,
                allow_unknown=allow_unknown,
            ),
            as_json=as_json,
        )
        return
    if not given:
        raise CommandLineError('wanted a prompt, like instar generate CHECKPOINT "Once upon a time", or --input FILE')
    if as_json:
        show(run(checkpoint, given[0], given[1:], log=_log), as_json=True)
        return
    waiting = [given[0]]  # shown once it is known to be text that the model can continue

    def write(text: str) -> None:
        typer.echo("".join([*waiting, text]), nl=False)
        waiting.clear()

    run(checkpoint, given[0], given[1:], log=_log, on_text=write)
    write("")
    typer.echo()


def _log(line: str) -> None:
    typer.echo(line, err=True)
