"""The benchmark of a model's life across tasks works, goes on where it was, and counts right."""

import json
import sys
from collections import Counter
from math import log
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import life
from benchmarks.life_texts import by_counting, sentences


def _run(folder: Path, *parts: str) -> list[dict[str, object]]:
    sys.argv[1:] = [str(folder), "--quick", *parts]
    life.main()
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_quick_measures_all_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["life.py"])
    monkeypatch.setattr(life, "PAGES", ())
    lines = _run(tmp_path / "life")
    parts = Counter(line["part"] for line in lines)
    assert parts == {"pretrain": 2, "floors": 1, "cross": parts["cross"], "characters": 1}
    judged = [line for line in lines if "test" in line]
    assert {(line["family"], line["start"]) for line in judged} == {
        (family, start) for family in life.FAMILIES for start in life.STARTS
    }
    assert all("instar train" in str(line["command"]) for line in judged)
    shown = capsys.readouterr().out
    assert "| movies (accuracy; 40 / 40) |" in shown
    assert "| 5-gram of all" in shown
    assert _run(tmp_path / "life") == lines, "what is measured is not measured again"


def test_parts_of_the_movies_share_no_sentence() -> None:
    parts = {name: {sentence for sentence, _ in rows} for name, rows in sentences(None, "movies").items()}
    assert {label for _, label in sentences(None, "movies")["test"]} == {"negative", "positive"}
    assert len(parts["train"]) > 6 * len(parts["test"]) > 6 * 900
    assert not parts["test"] & (parts["train"] | parts["validation"])
    assert not parts["train"] & parts["validation"]


def _slowly(train: str, held_out: str, order: int) -> float:
    """Witten and Bell's formula, read off letter by letter."""

    def chance(before: str, letter: str) -> float:
        lower = chance(before[1:], letter) if before else 1 / (len(set(train)) + 1)
        ends = range(len(before), len(train))
        followers = Counter(train[at] for at in ends if train[at - len(before) : at] == before)
        total, kinds = followers.total(), len(followers)
        return (followers[letter] + kinds * lower) / (total + kinds) if total else lower

    chances = [chance(held_out[max(0, at - order + 1) : at], letter) for at, letter in enumerate(held_out)]
    return -sum(map(log, chances)) / len(held_out)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_counting_is_the_formula(order: int) -> None:
    letters = np.random.default_rng(0).choice(list("abcde"), 400, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    train, held_out = "".join(letters[:300]), "".join(letters[300:]) + "z"
    assert by_counting(train, held_out, order) == pytest.approx(_slowly(train, held_out, order), rel=1e-12)
