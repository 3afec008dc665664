"""Two files of one run that have sequences of one name: told apart by file, and refused where a name has to be one."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from instar.cli import main
from instar.masking.value_arrays import Decoder, ValueArrays, read_header
from instar.tracks.masking_report import store_facts
from instar.tracks.stored import open_stored

RUN = """
model: {{config: bert, num_layers: 1, hidden_size: 16, num_heads: 2, intermediate_size: 16, max_length: 32}}
tokenizer: {{kind: kmer, k: 1}}
task: {{kind: mlm, rate: 0.5, mask_share: 1.0, masking: {{kind: adaptive}}}}
data:
  train: {{kind: fasta, path: [{folder}/first.fa, {folder}/second.fa]}}
  max_length: 32
  too_long: window
  cache: {folder}/cache
train: {{budget: "6 steps", batch_samples: 8, threads: 1}}
"""
SIZES = {"first.fa": 300, "second.fa": 200}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("names"), np.random.default_rng(1)
    for name, size in SIZES.items():
        (folder / name).write_text(f">chr1\n{''.join(rng.choice(list('ACGT'), size))}\n")
    (folder / "run.yaml").write_text(RUN.format(folder=folder))
    (folder / "genes.bed").write_text("chr1\t10\t110\tgene\n")
    with pytest.raises(SystemExit) as left:
        main(["train", str(folder / "run.yaml"), "--output", str(folder / "run")])
    assert not left.value.code
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([str(one) for one in arguments])
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def of_file(place: Path, name: str) -> np.ndarray:
    """The values of a file's bases; the files follow each other in the arrays."""
    stored = open_stored(place / "run")
    codes = np.asarray(stored.stores["one_minus_p"].mapped.arrays["value"])
    values = Decoder("uint8", np.nan)(codes)
    return values[:300] if name == "first.fa" else values[300:]


@pytest.mark.parametrize("verb", [
    ("export", "--output", "out", "--format", "bedgraph"),
    ("summary", "--annotation", "genes.bed"),
    ("view", "--region", "chr1:10-60"),
])  # fmt: skip
def test_a_track_needs_one_name_and_says_how_to_choose(
    place: Path, verb: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    paths = {"genes.bed": str(place / "genes.bed"), "out": str(tmp_path / "t")}
    name, *options = [paths.get(one, one) for one in verb]
    code, _, err = call(capsys, "tracks", name, place / "run", *options)
    assert code == 2
    assert f"{place / 'first.fa'} and {place / 'second.fa'} both have a sequence 'chr1'" in err
    assert "--genome FILE" in err
    assert not (tmp_path / "t").exists()
    code, _, err = call(capsys, "tracks", name, place / "run", *options, "--genome", place / "second.fa")
    assert (code, err) == (0, "")


@pytest.mark.parametrize("name", SIZES)
def test_each_file_has_its_own_values(
    place: Path, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    track = open_stored(place / "run", place / name).track("one_minus_p")
    np.testing.assert_array_equal(track["chr1"], of_file(place, name))
    out, back = tmp_path / "out", tmp_path / "back"
    genome = ("--genome", place / name)
    assert call(capsys, "tracks", "export", place / "run", "--output", out, "--format", "bedgraph", *genome)[0] == 0
    back.mkdir()
    (back / "run.yaml").write_bytes((place / "run" / "run.yaml").read_bytes())
    given = ("tracks", "import", back, "--input", out / "one_minus_p.bedgraph")
    code, _, err = call(capsys, *given)
    assert code == 2
    assert "--genome FILE" in err
    assert not (back / "masking").exists()
    assert call(capsys, *given, *genome)[0] == 0
    values = Decoder("uint8", np.nan)(
        np.asarray(ValueArrays(back / "masking", read_header(back / "masking")).arrays["value"])
    )
    mine, other = (values[:300], values[300:]) if name == "first.fa" else (values[300:], values[:300])
    np.testing.assert_allclose(mine, of_file(place, name), atol=0.003)
    assert np.isnan(other).all()


def test_verbs_that_need_no_name_tell_the_file(place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = call(capsys, "check", place / "run.yaml", "--json")
    assert code == 0
    assert {Path(one["file"]).name for one in json.loads(out)["samples"]} <= set(SIZES)
    code, out, _ = call(capsys, "check", place / "run.yaml")
    assert re.search(r"sample \d+, .*(first|second)\.fa: chr1 \d+ to", out)
    facts = store_facts(place / "run")
    assert facts is not None
    assert [one.name for one in facts.bins] == ["chr1 (first.fa)"] * 150 + ["chr1 (second.fa)"] * 100
    assert call(capsys, "report", place / "run")[0] == 0
    checkpoint = place / "run" / "checkpoint-6"
    code, _, err = call(capsys, "probe", checkpoint, "--output", tmp_path / "probed")
    assert code == 2
    assert re.search("both have a sequence 'chr1'.*--tracks none", err)
    assert not (tmp_path / "probed").exists()
    assert call(capsys, "probe", checkpoint, "--output", tmp_path / "probed", "--tracks", "none")[0] == 0


def test_a_file_of_another_run(place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = call(
        capsys, "tracks", "export", place / "run", "--output", tmp_path / "t", "--genome", place / "genes.bed"
    )
    assert code == 2
    assert "genes.bed is no file of this run's training data" in err
