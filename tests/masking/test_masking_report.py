"""The report of a run whose masking learns."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from instar.core.errors import InputMissingError
from instar.report.masking import masking_figures
from instar.run.train import train
from instar.tracks.masking_report import store_facts
from instar.tracks.stored import open_stored
from instar.tracks.transfer import summary
from instar.use.report import report
from tests.masking.test_tracks import GFF, RUN


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    (folder / "genome.fa").write_text(
        "".join(
            f">{name}\n{''.join(rng.choice(list('ACGT'), size))}\n" for name, size in (("chrA", 700), ("chrB", 300))
        )
    )
    (folder / "genes.gff3").write_text(GFF)
    (folder / "run.yaml").write_text(RUN.format(genome=folder / "genome.fa", cache=folder / "cache"))
    train(folder / "run.yaml", output=folder / "run")
    report(folder / "run", folder / "genes.gff3")
    return folder / "run"


def rows_of(run: Path, name: str) -> list[dict[str, str]]:
    with (run / "figures" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_report_shows_what_the_store_holds(run: Path) -> None:
    text = (run / "report.html").read_text()
    for title in ("Share of tokens masked", "Who is masked", "Along the corpus", "Stored values", "How long ago"):
        assert title in text
    assert "Masking value by annotation" in text
    assert len(text) < 2_000_000
    track = open_stored(run).track("one_minus_p")
    values = np.concatenate([track["chrA"], track["chrB"]])
    known = int((~np.isnan(values)).sum())
    assert sum(int(row["characters"]) for row in rows_of(run, "masking_values")) == known
    assert sum(int(row["characters"]) for row in rows_of(run, "masking_ages")) == known
    bins = rows_of(run, "masking_track")
    assert int(bins[-1]["end"]) == 300
    first = next(row for row in bins if row["name"] == "chrA")
    np.testing.assert_allclose(float(first["mean"]), np.nanmean(track["chrA"][: int(first["end"])]), atol=1e-4)
    assert next(float(row["mean"]) for row in rows_of(run, "masking_p_true")) == pytest.approx(
        1 - float(first["mean"]), abs=1e-6
    )


def test_means_by_class_end_where_the_store_ends(run: Path) -> None:
    wanted = {row["kind"]: row["mean"] for row in summary(run, run.parent / "genes.gff3")}
    rows = rows_of(run, "masking_classes")
    last = max(int(row["step"]) for row in rows)
    found = {row["class"]: float(row["mean"]) for row in rows if int(row["step"]) == last}
    assert set(found) == {"gene", "repeat"}
    for kind, mean in found.items():
        assert mean == pytest.approx(wanted[kind], abs=1e-4)
    assert len({row["step"] for row in rows}) > 3


def test_deciles_hold_the_whole_budget(run: Path) -> None:
    for step in {row["first_step"] for row in rows_of(run, "masking_deciles")}:
        mine = [row for row in rows_of(run, "masking_deciles") if row["first_step"] == step]
        assert sum(float(row["share_of_budget"]) for row in mine) == pytest.approx(1)
    for row in rows_of(run, "masking_rate"):
        assert float(row["realised_rate"]) == pytest.approx(0.3, abs=0.01)


def test_a_run_without_its_data_is_still_reported(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "masking")
    text = report(tmp_path / "run").read_text()
    assert "Share of tokens masked" in text
    assert "Along the corpus" not in text
    with pytest.raises(InputMissingError, match="keeps no masking probabilities"):
        report(tmp_path / "run", run.parent / "genes.gff3")
    with pytest.raises(InputMissingError, match="no such folder"):
        report(tmp_path / "none", run.parent / "genes.gff3")


def test_lines_that_say_nothing_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "masking.jsonl").write_text(
        'no\n[]\n{"step": "one"}\n{"step": 1, "realised_rate": null, "tokens_by_decile": [1], "masked_by_decile": 3}\n'
        '{"step": 2, "realised_rate": "x"}\n{"step": 3'
    )
    plans = masking_figures(tmp_path, None)
    assert [plan.name for plan in plans] == ["masking_rate"]
    assert store_facts(tmp_path) is None
