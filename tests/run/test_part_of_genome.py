"""A run on parts of a genome, scored on others: coordinates stay those of the chromosomes, in rows and in tracks."""

import json
from pathlib import Path

import numpy as np
import pytest

from instar.cli import main
from instar.run.train import train
from instar.tracks.stored import open_stored
from instar.tracks.transfer import summary

RUN = """
model: {{config: bert, num_layers: 1, hidden_size: 32, num_heads: 2, intermediate_size: 48, max_length: 32}}
tokenizer: {{kind: kmer, k: 1}}
task: {{kind: mlm, rate: 0.3, mask_share: 1.0, masking: {{kind: adaptive}}}}
data:
  train: {{kind: fasta, path: {folder}/genome.fa, intervals: {folder}/train.bed}}
  eval: {{chromosomes: [chrB]}}
  max_length: 32
  too_long: window
  cache: {folder}/cache
train: {{budget: "8 steps", batch_samples: 16, save_every: "50 steps", threads: 1}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genome of three chromosomes, and a run on two intervals of the first."""
    folder = tmp_path_factory.mktemp("part")
    rng = np.random.default_rng(0)
    records = (f">{name}\n{''.join(rng.choice(list('ACGT'), 400))}\n" for name in ("chrA", "chrB", "chrC"))
    (folder / "genome.fa").write_text("".join(records))
    (folder / "train.bed").write_text("chrA\t100\t200\t.\t0\t-\nchrA\t300\t350\n")
    (folder / "run.yaml").write_text(RUN.format(folder=folder))
    train(folder / "run.yaml", output=folder / "run")
    return folder


def status(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return left.value.code


def test_values_lie_inside_the_intervals(place: Path) -> None:
    stored = open_stored(place / "run")
    track = stored.track("one_minus_p")
    assert list(track) == ["chrA"], "chromosomes that are not trained on have no track"
    known = np.flatnonzero(~np.isnan(track["chrA"]))
    assert len(known) > 100
    assert np.isin(known, np.r_[100:200, 300:350]).all()


def test_features_outside_are_not_known_and_those_of_other_chromosomes_skipped(place: Path) -> None:
    (place / "features.bed").write_text("chrA\t0\t100\tout\nchrA\t100\t150\tin\nchrB\t0\t50\tin\n")
    told: list[str] = []
    rows = {row["kind"]: row for row in summary(place / "run", place / "features.bed", log=told.append)}
    assert (rows["out"]["num_known"], rows["in"]["num_bases"]) == (0, 50)
    assert rows["in"]["num_known"] > 25
    assert any("1 features are skipped" in line and "chrB" in line for line in told)


def test_a_chromosome_of_a_file_is_scored_as_the_split_that_it_is(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(next((place / "run").glob("checkpoint-*")))
    assert status(["evaluate", checkpoint, "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    genome = str(place / "genome.fa")
    assert status(["evaluate", checkpoint, "--input", genome, "--part", "chromosomes=chrB", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == whole["loss"]
    assert status(["evaluate", checkpoint, "--part", "chromosomes=chrB"]) == 2
    assert "--input" in capsys.readouterr().err
    assert status(["evaluate", checkpoint, "--input", genome, "--part", "chromosomes=chrX"]) == 65
    assert "no sequence 'chrX'" in capsys.readouterr().err


def test_rows_of_an_interval_have_the_coordinates_of_the_chromosome(place: Path) -> None:
    checkpoint, output = next((place / "run").glob("checkpoint-*")), place / "rows.jsonl"
    (place / "some.bed").write_text("chrC\t40\t60\nchrB\t10\t25\n")
    options = [
        "--input",
        str(place / "genome.fa"),
        "--part",
        f"intervals={place / 'some.bed'}",
        "--output",
        str(output),
    ]
    assert status(["predict", str(checkpoint), *options]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["record"], row["start"], row["end"]) for row in rows] == [("chrB", 10, 25), ("chrC", 40, 60)]


def test_what_is_held_out_must_not_be_trained_on(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        status(["train", str(place / "run.yaml"), "--output", str(place / "no"), "data.eval.chromosomes=[chrA]"]) == 2
    )
    assert "data.eval: has 150 bases that data.train has too, first chrA:100-200" in capsys.readouterr().err
    assert not (place / "no").exists()
    assert status(["check", str(place / "run.yaml")]) == 0
    shown = capsys.readouterr()
    assert "2 intervals, 150 bases of chrA, are read; their strands are ignored" in shown.out + shown.err
