"""The benchmark of masking policies works, goes on where it was, and counts right."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import masking, masking_corpora, masking_table
from benchmarks.masking_corpora import SYNTHETIC_CLASSES, WORD_LENGTH, Size, make_corpus, token_deciles
from benchmarks.masking_table import Interval, at_share, recovered, rows_of, table_of


def test_quick_runs_once_and_tells_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = masking.README.read_bytes()
    monkeypatch.setattr(sys, "argv", ["masking.py", "--output", str(tmp_path), "--quick", "--corpus", "synthetic"])
    masking.main()
    results = tmp_path / "results-synthetic.jsonl"
    runs = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(runs) == 4
    assert masking.README.read_bytes() == readme
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(masking.QUICK_ARMS)
    assert len({line.count("|") for line in rows}) == 1
    _all_arms_of_a_seed_begin_alike(runs)
    for run in runs:
        assert np.sum(run["hidden"]) / np.sum(run["maskable"]) == pytest.approx(0.15, abs=0.005)
        assert len(run["shift"]["curve"]) == 3
    first, second, third, _ = results.read_text().splitlines(keepends=True)
    results.write_text(first + second + third + '{"torn')
    masking.main()
    again = capsys.readouterr().out
    assert "seed 0" not in again, "a run that is done is not made again"
    remade = [json.loads(line) for line in results.read_text().splitlines()]
    assert [_losses(run) for run in remade] == [_losses(run) for run in runs]


def _losses(run: dict[str, Any]) -> list[float]:
    return [run["seed"], *(look["loss"] for look in run["curve"])]


def _all_arms_of_a_seed_begin_alike(runs: list[dict[str, Any]]) -> None:
    first = {(run["arm"], run["seed"]): run["curve"][0]["loss"] for run in runs}
    for seed in (0, 1):
        assert len({loss for (_, number), loss in first.items() if number == seed}) == 1
    assert len(set(first.values())) == 2


def test_an_interval_is_students() -> None:
    found = Interval.of([1.0, 2.0, 3.0])
    assert found.mean == 2
    assert found.half == pytest.approx(4.303 / math.sqrt(3))
    assert not found.is_clear
    assert found.told(1) == "+2.0 ± 2.5"
    assert Interval.of([1.0, 1.1, 1.2]).told(2) == "**+1.10 ± 0.25**"
    assert math.isnan(Interval.of([1.0]).half)
    assert not Interval.of([1.0]).is_clear


def _run(losses: list[float], *, after: list[float]) -> dict[str, Any]:
    def curve(values: list[float]) -> list[dict[str, Any]]:
        return [
            {"step": n, "tokens": 100 * n, "loss": x, "by_class": [x] * 4, "counts": [5] * 4}
            for n, x in enumerate(values)
        ]

    hidden = [[10, 0, 0, 0]] * 5 + [[5, 10, 0, 5]] * 5
    return {
        "curve": curve(losses),
        "hidden": hidden,
        "maskable": [500, 100, 50, 350],
        "shift": {"curve": curve(after)},
    }


def test_differences_are_paired_by_seed_and_losses_read_at_the_fastest_time() -> None:
    control, other = masking_table.CONTROL, "frequency"
    runs = {}
    for seed, (mine, theirs) in enumerate([(1.0, 0.9), (2.0, 1.7), (3.0, 2.8)]):
        runs[control, seed] = _run([4.0, mine], after=[4.0, 3.0, mine])
        runs[other, seed] = _run([4.0, theirs], after=[4.0, 3.0, mine + 1])
    runs[control, 3] = _run([4.0, 9.0], after=[4.0, 9.0])  # its pair is missing
    first, second = rows_of("synthetic", runs, [control, other], {control: 1.0, other: 2.0})
    assert first["seeds"] == [0, 1, 2]
    assert first["mean"]["tokens"] == 2
    assert first["paired"]["tokens"] == Interval(mean=0, half=0, pairs=3)
    assert second["paired"]["tokens"].mean == pytest.approx(-0.2)
    assert second["paired"]["tokens"].half == pytest.approx(4.303 * 0.1 / math.sqrt(3))
    # In the time of the control's steps it makes half of its own.
    assert second["mean"]["seconds"] == pytest.approx(np.mean([(4 + x) / 2 for x in (0.9, 1.7, 2.8)]))
    assert second["mean"]["share motif"] == pytest.approx(0.5)
    assert second["mean"]["rate"] == pytest.approx(0.15)
    assert second["mean"]["recovered"] == pytest.approx(1 / 3)  # by seed 2 only, whose level is 3.5
    lines = table_of("synthetic", [first, second])
    assert len({line.count("|") for line in lines}) == 1
    assert "(2 did not)" in lines[-1]
    kept = json.loads(masking.raw({"synthetic": [first, second]}))
    assert [one["tokens"] for one in kept["synthetic: frequency"]["each"]] == [0.9, 1.7, 2.8]


def test_recovery_is_where_the_line_meets_the_level() -> None:
    run = _run([1.0, 1.0], after=[4.0, 3.0, 1.0])
    assert recovered(run, (1,), 2.0) == (150.0, True)
    assert recovered(run, (1,), 4.5) == (0.0, True)
    assert recovered(run, (1,), 0.5) == (200.0, False)
    assert at_share(run["shift"]["curve"], 0.25) == 3.5


def test_the_synthetic_genome_is_what_its_classes_say(tmp_path: Path) -> None:
    corpus = make_corpus("synthetic", 3, Size(train=30_000, held=3_000), tmp_path)
    genomes = {part: _bases(corpus.path(part)) for part in ("train", "shifted_train")}
    codes = {part: corpus.codes(part) for part in genomes}
    for part, bases in genomes.items():
        assert len(bases) == len(codes[part]) == 30_000
        random = bases[codes[part] == SYNTHETIC_CLASSES.index("random")]
        assert _entropy(random) == pytest.approx(math.log(4), abs=0.01)
        halves = codes[part] == SYNTHETIC_CLASSES.index("motif_half")
        motifs = halves | (codes[part] == SYNTHETIC_CLASSES.index("motif"))
        assert halves.sum() / motifs.sum() == pytest.approx(1 / WORD_LENGTH, abs=0.01)
    fixed = ~np.isin(codes["train"], [SYNTHETIC_CLASSES.index(name) for name in ("motif", "motif_half")])
    assert (genomes["train"] == genomes["shifted_train"])[fixed].all()
    assert (genomes["train"] == genomes["shifted_train"])[~fixed].mean() < 0.6


def test_a_base_of_a_word_is_known_from_the_others_and_a_half_is_not() -> None:
    random = np.random.default_rng(5)
    table, halves = masking_corpora.words(random)
    bases = np.zeros(60_000, dtype=np.uint8)
    codes = np.full(60_000, SYNTHETIC_CLASSES.index("motif"), dtype=np.uint8)
    bases, codes = masking_corpora._spelt(random, bases, codes, (table, halves))
    drawn = codes == SYNTHETIC_CLASSES.index("motif_half")
    starts = np.arange(WORD_LENGTH, len(bases) - 2 * WORD_LENGTH)
    around = np.stack([bases[starts + by] for by in range(-WORD_LENGTH, WORD_LENGTH + 1) if by], axis=1)
    # Codes say which phase and word a place is of; its neighbours alone must say as much.
    keys = np.array([hash(row.tobytes()) for row in around])
    for is_half, least in ((False, 0.0), (True, math.log(2))):
        chosen = drawn[starts] == is_half
        order = np.argsort(keys[chosen])
        key, base = keys[chosen][order], bases[starts][chosen][order]
        groups = np.split(base, np.flatnonzero(np.diff(key)) + 1)
        large = [group for group in groups if len(group) >= 40]
        assert len(large) > 10
        mean = np.average([_entropy(group) for group in large], weights=[len(group) for group in large])
        assert mean == pytest.approx(least, abs=0.03)


def _bases(path: Path) -> np.ndarray[Any, Any]:
    return np.frombuffer("".join(path.read_text().splitlines()[1:]).encode(), dtype=np.uint8)


def _entropy(bases: np.ndarray[Any, Any]) -> float:
    share = np.bincount(bases) / len(bases)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def test_deciles_split_the_tokens_evenly_the_commonest_first() -> None:
    counts = np.array([0, 1, 50, 10, 10, 10, 10, 5, 4])
    deciles = token_deciles(counts)
    assert deciles[2] == 2  # half of all tokens, in the middle of which lies the third tenth
    assert deciles[3] == 5
    assert deciles[0] == deciles[1] == 9
    by_count = deciles[np.argsort(-counts, kind="stable")].tolist()
    assert by_count == sorted(by_count)


def test_yeast_and_text_hold_out_what_is_not_learnt_from(tmp_path: Path) -> None:
    yeast = make_corpus("yeast", 0, Size(train=24_000, held=16_000), tmp_path / "yeast")
    train, held = (yeast.path(part).read_text().splitlines()[1::2] for part in ("train", "held"))
    assert sum(map(len, held)) == len(yeast.codes("held")) == 16_000
    assert sum(map(len, train)) == len(yeast.codes("train")) == pytest.approx(24_000, abs=20)
    assert not any(piece[:40] in other for piece in held for other in train)
    text = make_corpus("text", 0, Size(train=30_000, held=12_000), tmp_path / "text")
    assert text.path("held").read_text()[:200] not in text.path("train").read_text()


def test_costs_are_the_least_and_all_alike_until_every_arm_was_timed() -> None:
    lines = [
        {"corpus": "yeast", "arm": arm, "round": n, "seconds": seconds}
        for arm, rounds in (("a", [1.0, 9.0, 2.0]), ("b", [4.0]))
        for n, seconds in enumerate(rounds)
    ]
    assert masking.costs_of(lines, "yeast", ["a", "b"]) == {"a": 1.0, "b": 4.0}
    assert masking.costs_of(lines, "yeast", ["a", "b", "c"]) == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert masking.costs_of(lines, "text", ["a"]) == {"a": 1.0}


def test_words_say_where_following_the_model_did_not_help() -> None:
    each = {
        arm: [{"tokens": level + by * 0.001} for by in range(5)]
        for arm, level in (("adaptive, shuffled", 2.0), ("adaptive, one_minus_p", 1.9), ("adaptive, progress", 2.1))
    }
    told = masking._verdict(each)
    assert "helped: adaptive, one_minus_p;" in told
    assert "did not help: adaptive, progress." in told
