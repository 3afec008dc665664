import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.core.errors import DiskError, InputMissingError, OutputError
from instar.report import build_demo_picture, build_report
from instar.report.curves import smoothed, thinned
from instar.report.figures import plan_figures
from instar.report.headline import compact, duration
from instar.report.page import EmbeddedFigure, render_page
from instar.report.reading import Series, read_run
from instar.report.samples import filled_text
from instar.report.theme import LIGHT, draw_figure, render
from instar.report.writing import to_csv, write_file

MakeRun = Callable[..., Path]


def test_report_and_its_data(make_run: MakeRun) -> None:
    run = make_run()
    paths = build_report(run)
    page = paths.page.read_text(encoding="utf-8")
    assert paths.page.stat().st_size < 2_000_000
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    for text in ("speeches", "86.0%", "checkpoint-1000", "command line", "acceptor", "22 of 25 masked tokens right"):
        assert text in page, text
    names = {path.stem for path in paths.figures}
    assert names == {"loss", "lr", "tokens_per_second", "grad_norm", "masked_accuracy", "perplexity", "confusion"}
    for path in paths.figures:
        assert path.parent == run / "figures"
        assert path.stat().st_size > 0
    assert page.count("<figure>") == len(names)
    rows = list(csv.DictReader(text_of(run / "figures" / "loss.csv")))
    whole = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()[:-1]]
    wanted = {(line["split"], line["step"]): line["loss"] for line in whole}
    assert {(row["split"], int(row["step"])): float(row["loss"]) for row in rows} == wanted
    confusion = list(csv.reader(text_of(run / "figures" / "confusion.csv")))
    assert confusion[1] == ["neither", "150", "9", "6"]


def text_of(path: Path) -> io.StringIO:
    return io.StringIO(path.read_bytes().decode(), newline="")


def test_equal_runs_give_equal_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(num_steps=500, only=("loss", "confusion", "labels", "masked_accuracy"))
    copy = shutil.copytree(run, tmp_path / "elsewhere" / run.name)
    for folder in (run, copy):
        build_report(folder)
        build_demo_picture(folder, folder / "demo.png", floor=0.2, kill_step=100)
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (run, copy)
    )
    assert first == second
    assert not [path for path in first if ".tmp" in path.name]


def test_a_resumed_run_counts_each_step_once(tmp_path: Path) -> None:
    lines = [{"step": 1, "loss": 5.0}, {"step": 2, "loss": 9.0}, {"step": 2, "loss": 4.0}, {"step": 3, "loss": 3.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_run(tmp_path).series("loss", "train") == Series((1, 2, 3), (5.0, 4.0, 3.0))


def test_training_accuracy_of_masked_tokens_shares_its_figure(tmp_path: Path) -> None:
    lines = [
        {"step": 1, "split": "train", "accuracy": 0.25},
        {"step": 1, "split": "eval", "masked_accuracy": 0.5},
        {"step": 1, "split": "test", "accuracy": 0.75},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(tmp_path)
    assert [run.series("masked_accuracy", split).values for split in run.splits()] == [(0.25,), (0.5,), ()]
    assert run.series("accuracy", "test").values == (0.75,)


def test_a_baseline_is_a_line_in_the_figure_of_its_score(tmp_path: Path) -> None:
    lines = [{"step": step, "split": "eval", "loss": 2 - step / 10, "baseline_loss": 1.294} for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    written = build_report(tmp_path)
    assert {path.stem for path in written.figures} == {"loss"}
    rows = (tmp_path / "figures" / "loss.csv").read_text().splitlines()
    assert rows[-3:] == ["baseline,1,1.294", "baseline,2,1.294", "baseline,3,1.294"]
    assert "baseline 1.294" in written.page.read_text()


def test_a_torn_line_is_left_out_and_others_are_counted(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(
        b'{"step": 1, "loss": 2.5}\n\xff\xfe\n[1, 2]\n{"loss": 1}\n{"step": -4}\n{"step": true}\n'
        + b"[" * 100_000 + b'\n{"step": 2, "loss": null}\n{"step": 3, "loss": NaN, "lr": 1' + b"0" * 400 + b"}\n"
        + b'{"step": 4, "lo'
    )  # fmt: skip
    run = read_run(tmp_path)
    assert run.num_unreadable == 6
    assert run.series("loss", "train").finite() == Series((1,), (2.5,))
    page = build_report(tmp_path).page.read_text()
    assert "6 lines could not be read" in page


@pytest.mark.parametrize("content", [None, b"", b'{"step": 1, "loss'])
def test_nothing_measured_yet_is_said(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(InputMissingError, match="no measurement to report yet") as error:
        build_report(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ([] if content is None else ["metrics.jsonl"])


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="a run folder was wanted"):
        build_report(tmp_path / "none")


def test_metrics_alone_suffice_and_odd_values_do_not_break_it(tmp_path: Path) -> None:
    odd = [
        {"step": 1, "loss": 1e308, "lr": 0, "x/../y": 1, "X .. y": 2, "confusion": [[1, 2]], "labels": 3},
        {"step": 2, "split": "日本$\\frac$", "loss": 0, "confusion": [[0]], "labels": ["$^"]},
        {"step": 3, "loss": -5.0, "x/../y": 3, "X .. y": 2},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in odd))
    (tmp_path / "samples.jsonl").write_text(
        '{"step": 3, "kind": "mlm", "tokens": 7}\n'
        '{"step": 3, "kind": "mlm", "tokens": [{"masked": 1}, 2, {"text": 0.5}]}\n'
        '{"step": 3, "kind": "classify"}\n{"step": "x", "kind": []}\n5\n'
    )
    paths = build_report(tmp_path)
    assert {path.name for path in paths.figures} >= {"loss.csv", "x_y.csv", "x_y_2.csv", "confusion.csv"}
    assert {path.parent for path in paths.figures} == {tmp_path / "figures"}
    build_demo_picture(tmp_path, tmp_path / "demo.png")


def test_many_measurements_stay_below_the_size_and_are_counted(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(30)]
    lines = [{"step": step, "confusion": [[1]], **dict.fromkeys(names, (step * 7919) % 101)} for step in range(3000)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    plans, num_left_out = plan_figures(read_run(tmp_path))
    assert (len(plans), num_left_out) == (24, 7)
    assert plans[-1].name == "confusion"
    drawn = render(draw_figure(plans[0].draw, LIGHT, plans[0].size), "svg")
    figures = [EmbeddedFigure.of(plan, light=drawn, dark=drawn) for plan in plans]
    page = render_page(read_run(tmp_path), figures, num_left_out)
    shown = page.count(b"<figure>")
    assert 5 < shown < 24
    assert len(page) < 2_000_000
    assert f"{31 - shown} more measurements" in page.decode()


def test_a_full_disk_leaves_the_old_report_whole(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(num_steps=100, only=("loss",))
    before = build_report(run).page.read_bytes()

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DiskError, match="free some space"):
        build_report(run)
    assert (run / "report.html").read_bytes() == before
    assert not list((run / "figures").glob(".tmp*"))


def test_an_output_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_file(tmp_path / "file" / "below.png", b"")


@pytest.mark.parametrize("cell", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "+1\n"])
def test_a_csv_cell_is_never_a_formula(cell: str) -> None:
    header, row = csv.reader(io.StringIO(to_csv([cell], [[cell]]).decode(), newline=""))
    assert header[0].startswith("'")
    assert row[0].startswith("'")


@settings(max_examples=100, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.text(st.characters(codec="utf-8")))
def test_csv_round_trip(number: float, count: int, text: str) -> None:
    table = to_csv(["a", "b", "c"], [[number, count, text]]).decode()
    _, (first, second, third) = csv.reader(io.StringIO(table, newline=""))
    assert (float(first), int(second)) == (number, count)
    assert third in (text, f"'{text}")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5000))
def test_thinning_and_smoothing_stay_within_the_values(values: list[float]) -> None:
    series = Series(tuple(range(len(values))), tuple(values))
    thin = thinned(series)
    assert len(thin.steps) <= 1000
    assert list(thin.steps) == sorted(set(thin.steps))
    assert (min(thin.values), max(thin.values)) == (min(values), max(values))
    smooth = smoothed(series.values)
    slack = 1e-6 * max(1.0, *map(abs, values))
    assert min(values) - slack <= min(smooth) <= max(smooth) <= max(values) + slack


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["the", "trans", "##form", "##er", "reads"], "the transformer reads"),
        (["The", "\u0120quick", "\u0120fox", "es"], "The quick foxes"),
        (["\u2581The", "\u2581quick", "er"], "The quicker"),
        (["t", "h", "e", " ", "fox"], "the fox"),
        (["A", "C", "G", "T"], "ACGT"),
        (["ACGTAC", "GGTTAA"], "ACGTACGGTTAA"),
        (["the", "quick", "fox"], "the quick fox"),
    ],
)
def test_pieces_are_joined_as_they_were(pieces: list[str], text: str) -> None:
    shown = filled_text({"tokens": [{"text": piece} for piece in pieces]}).tokens
    assert "".join(" " * token.gap + token.text for token in shown) == text


def test_numbers_for_people() -> None:
    assert [compact(number) for number in (950, 12_345, 4.56e6, 7e9)] == ["950", "12.3 k", "4.56 M", "7 G"]
    assert [duration(seconds) for seconds in (4.2, 200, 7500)] == ["4.2 s", "3 min 20 s", "2 h 5 min"]
