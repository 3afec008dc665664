"""Masking values as tracks: out and in again, summed by annotation, drawn by a real browser without a network."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instar.cli import main
from instar.core.errors import DataError, InputMissingError, UsageError
from instar.core.rundir import RunFolder
from instar.genome.track import read_bigwig, write_bigwig
from instar.masking import journal
from instar.run.train import train
from instar.tracks.stored import open_stored, sizes_of
from instar.tracks.transfer import Shown, export, import_values, summary, view

RUN = """
model: {{config: bert, num_layers: 1, hidden_size: 32, num_heads: 2, intermediate_size: 48, max_length: 32}}
tokenizer: {{kind: kmer, k: 2}}
task: {{kind: mlm, rate: 0.3, mask_share: 1.0, masking: {{kind: adaptive, decay: 0.01}}}}
data:
  train: {{kind: fasta, path: {genome}}}
  max_length: 32
  too_long: window
  cache: {cache}
train: {{budget: "12 steps", batch_samples: 16, log_every: 4, save_every: "50 steps", threads: 1}}
"""
GFF = "chrA\tx\tgene\t1\t100\t.\t+\t.\tName=<first>\nchrA\tx\trepeat\t401\t500\t.\t-\t.\t\n"
GFF += "B\tx\tgene\t11\t60\t.\t+\t.\t\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genome of two chromosomes with N and lower case, its annotation, and a run on it."""
    folder = tmp_path_factory.mktemp("tracks")
    rng = np.random.default_rng(0)
    text = []
    for name, size in (("chrA", 700), ("chrB", 300)):
        bases = "".join(rng.choice(list("ACGT"), size))
        bases = bases[:150] + "N" * 20 + bases[170:400] + bases[400:500].lower() + bases[500:]
        text.append(f">{name}\n" + "\n".join(bases[at : at + 50] for at in range(0, size, 50)))
    (folder / "genome.fa").write_text("\n".join(text) + "\n")
    (folder / "genes.gff3").write_text(GFF)
    (folder / "run.yaml").write_text(RUN.format(genome=folder / "genome.fa", cache=folder / "cache"))
    train(folder / "run.yaml", output=folder / "run")
    return folder


def test_tracks_lie_on_their_chromosomes_and_know_nothing_of_gaps(place: Path) -> None:
    stored = open_stored(place / "run")
    track = stored.track("one_minus_p")
    assert (
        {name: len(values) for name, values in track.items()} == {"chrA": 700, "chrB": 300} == sizes_of(stored.source)
    )
    known = {name: ~np.isnan(values) for name, values in track.items()}
    assert known["chrA"].mean() > 0.5
    assert not known["chrA"][150:170].any()
    assert ((track["chrA"][known["chrA"]] >= 0) & (track["chrA"][known["chrA"]] <= 1)).all()
    ages = stored.track("one_minus_p", "age")["chrA"]
    assert (np.isnan(ages) == ~known["chrA"]).all()
    assert np.nanmax(ages) == 0


@pytest.mark.parametrize("schema", ["bedgraph", "bigwig", "hdf5"])
def test_out_and_in_again(schema: str, place: Path, tmp_path: Path) -> None:
    written = export(place / "run", tmp_path / "out", file_format=schema)["written"]
    wanted = open_stored(place / "run").track("one_minus_p")
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(place / "run" / "run.yaml", new)
    given = tmp_path / "out" if schema == "hdf5" else Path(written[0])
    result = import_values(new, given)
    assert result["known"] == sum(int((~np.isnan(values)).sum()) for values in wanted.values())
    stored_run = RunFolder(new)
    shutil.copytree(place / "run" / "checkpoint-12", stored_run.checkpoint(12))
    back = open_stored(new).track("one_minus_p")
    for name, values in wanted.items():
        np.testing.assert_allclose(back[name], values, atol=0.003)
    with pytest.raises(UsageError, match="holds a store"):
        import_values(new, given)


def test_a_run_begins_from_what_was_imported(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name of its run file; the first step masks by these values."""
    monkeypatch.chdir(tmp_path)
    text = RUN.format(genome=place / "genome.fa", cache=place / "cache").replace("12 steps", "1 steps")
    (tmp_path / "mine.yaml").write_text(text)
    lines = [f"chrA\t{start}\t{start + 15}\t{start // 15 % 2}\n" for start in range(0, 150, 15)]
    (tmp_path / "given.bedgraph").write_text("".join([*lines, "chrA\t170\t700\t0\n"]))
    result = import_values(tmp_path / "mine.yaml", tmp_path / "given.bedgraph")
    assert Path(result["store"]) == Path("runs/mine/masking")
    train(tmp_path / "mine.yaml")
    row = json.loads((tmp_path / "runs" / "mine" / "masking.jsonl").read_text().splitlines()[0])
    tokens, masked = row["tokens_by_decile"], row["masked_by_decile"]
    assert tokens[0] > 0
    assert tokens[-1] > 0
    shares = np.array(masked) / np.maximum(tokens, 1)
    assert shares[8:][np.array(tokens[8:]) > 0].max() > shares[0]
    track = open_stored(tmp_path / "runs" / "mine").track("one_minus_p")
    assert np.isnan(track["chrB"]).mean() > 0.5
    assert (track["chrA"][170:] == 0).mean() > 0.5


def test_strands_apart_are_told(place: Path, tmp_path: Path) -> None:
    text = RUN.format(genome=place / "genome.fa", cache=place / "cache").replace("decay: 0.01", "strands: apart")
    (tmp_path / "run.yaml").write_text(text.replace("  too_long", "  reverse_complement: 0.5\n  too_long"))
    (tmp_path / "given.bedgraph").write_text("chrA\t0\t5\t0.5\n")
    result = import_values(tmp_path, tmp_path / "given.bedgraph")
    assert result["known"] == 5
    assert "those of the plus strand" in result["notices"][0]


def test_p_true_is_what_is_left_of_one(place: Path, tmp_path: Path) -> None:
    export(place / "run", tmp_path, file_format="bigwig", what="p_true")
    value = open_stored(place / "run").track("one_minus_p")["chrB"]
    np.testing.assert_allclose(read_bigwig(tmp_path / "p_true.bw")["chrB"], 1 - value, atol=1e-6)


def test_shards_that_do_not_fit(place: Path, tmp_path: Path) -> None:
    import h5py

    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(place / "run" / "run.yaml", new)
    export(place / "run", tmp_path / "out", file_format="hdf5")
    with h5py.File(tmp_path / "out" / "shard_0.hdf5", "a") as file:
        file["0"][3] = 1.5
        del file["1"]
        file.create_dataset("1", data=np.zeros(3))
    with pytest.raises(DataError) as raised:
        import_values(new, tmp_path / "out")
    assert "sample 0 has values outside 0 to 1" in str(raised.value)
    assert "sample 1 has 3 values; wanted" in str(raised.value)
    (tmp_path / "out" / "shard_0.hdf5").write_bytes(b"no")
    with pytest.raises(DataError, match="is not a whole HDF5 shard"):
        import_values(new, tmp_path / "out")
    (tmp_path / "bad.bedgraph").write_text("chrZ\t0\t5\t0.5\nchrA\t0\t5\t7\n")
    with pytest.raises(DataError, match=r"bad.bedgraph:2: wanted a value from 0 to 1; got 7"):
        import_values(new, tmp_path / "bad.bedgraph")  # chrZ is not in this genome: skipped
    (tmp_path / "more.bedgraph").write_text("chrZ\t0\t5\t0.5\nchrA\t0\t5\t0.7\n")
    shutil.copytree(new, tmp_path / "other")
    said = import_values(tmp_path / "other", tmp_path / "more.bedgraph")["notices"]
    assert len(said) == 1
    assert "1 values are skipped" in said[0]
    assert "chrZ" in said[0]

    write_bigwig(tmp_path / "bad.bw", {"chrA": np.full(700, 1.25, np.float32)})
    with pytest.raises(DataError, match=r"bad.bw: has values outside 0 to 1 on chrA"):
        import_values(new, tmp_path / "bad.bw")
    assert not (new / "masking").exists(), "nothing is written before all was read"


def test_the_sum_of_a_class_counts_its_bases(place: Path) -> None:
    rows = {row["kind"]: row for row in summary(place / "run", place / "genes.gff3")}
    assert (rows["gene"]["num_features"], rows["gene"]["num_bases"]) == (2, 150)
    assert (rows["repeat"]["num_features"], rows["repeat"]["num_bases"]) == (1, 100)
    assert rows["(none)"]["num_bases"] == 1000 - 250
    track = open_stored(place / "run").track("one_minus_p")["chrA"]
    assert rows["repeat"]["mean"] == pytest.approx(np.nanmean(track[400:500]), abs=1e-6)


def test_a_run_that_was_killed_is_seen_up_to_its_last_whole_record(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    segment = journal.segments(tmp_path / "run" / "masking")[0].path
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size - 5)
    assert "torn" in export(tmp_path / "run", tmp_path / "out", file_format="bedgraph")["notices"][0]


def test_folders_without_values(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="neither a run folder nor"):
        open_stored(tmp_path)
    shutil.copytree(place / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "masking")
    with pytest.raises(InputMissingError, match="keeps no masking probabilities"):
        open_stored(tmp_path / "run")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def test_the_command_line(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, genes = str(place / "run"), str(place / "genes.gff3")
    code, out, _ = call(capsys, "tracks", "summary", run, "--annotation", genes)
    assert code == 0
    assert re.search(r"one_minus_p\s+gene\s+2\s+150", out)
    code, out, _ = call(capsys, "tracks", "summary", run, "--annotation", genes, "--json")
    assert {row["kind"] for row in json.loads(out)} == {"gene", "repeat", "(none)"}
    code, out, _ = call(
        capsys, "tracks", "export", run, "--output", str(tmp_path / "t"), "--format", "bedgraph", "--json"
    )
    assert json.loads(out)["written"] == [str(tmp_path / "t" / "one_minus_p.bedgraph")]
    code, _, err = call(capsys, "tracks", "view", run, "--region", "chrA:5-99999")
    assert code == 2
    assert "chrA; got 5-99999" in err
    code, _, err = call(capsys, "tracks", "view", str(tmp_path))
    assert code == 66


# ---- the browser ----


@pytest.fixture(scope="module")
def page(place: Path) -> Path:
    shown = Shown(region="chrA:100-600", annotation=place / "genes.gff3", output=place / "page.html")
    return Path(view(place / "run", shown)["page"])


def test_the_page_needs_no_network_and_trusts_no_name(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    outside = text.split("<script>")[0]
    assert "default-src 'none'" in outside
    assert "src=" not in re.sub(r"-src", "", outside)
    assert "<first>" not in text
    assert "masking value (one_minus_p)" in outside
    assert len(text) < 2_500_000


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def browser(profile: Path) -> list[str]:
    """Chromium without a window and without a network."""
    return [
        str(CHROMIUM),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={profile / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--virtual-time-budget=20000",
        "--window-size=1200,900",
    ]


def drawn_dom(page: Path, profile: Path) -> str:
    """What a real browser makes of a page."""
    command = [*browser(profile), "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False).stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here; on Debian: apt install chromium")
def test_a_real_browser_draws_the_page(page: Path, tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    dom = drawn_dom(page, tmp_path)
    assert ">drawn</p>" in dom
    # igv.js keeps its own picture of each track apart from the page; the list above it names them all.
    for name in ("masking value (one_minus_p)", "p_true", "annotation"):
        assert name in dom
    command = [*browser(tmp_path), f"--screenshot={shot}", page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=900, check=True)
    pixels = np.asarray(Image.open(shot).convert("RGB")).reshape(-1, 3)
    blue = (np.abs(pixels.astype(int) - (0x00, 0x72, 0xB2)) < 30).all(axis=1)
    assert len(np.unique(pixels, axis=0)) > 50, "the picture is blank"
    assert blue.sum() > 500, "the first track is not drawn"
