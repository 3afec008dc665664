"""Weighted mixtures: exact shares, a pure function of (seed, number), each source in passes of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.config.load import load
from instar.core.errors import ConfigError
from instar.data import Cut, Samples, Stream, build_cache
from instar.data.config import DataConfig
from instar.data.fingerprint import cache_fingerprint
from instar.data.mixing import BLOCK, Mixing
from instar.data.source import Mixture, Text
from instar.data.tokenizer import Character, Kmer, build_tokenizer
from instar.run.source import source_like


def lines(path: Path, letter: str, count: int, length: int = 1) -> dict[str, Any]:
    path.write_text("\n".join(f"{letter * length}{number:03}" for number in range(count)) + "\n")
    return {"kind": "text", "path": str(path), "documents": "line"}


def mixture(folder: Path, weights: tuple[float, float] = (3, 1), length: int = 1) -> Mixture:
    parts = [lines(folder / "a.txt", "a", 40, length), lines(folder / "b.txt", "b", 300, length)]
    sources = [{"weight": weight, "source": part} for weight, part in zip(weights, parts, strict=True)]
    return Mixture.model_validate({"sources": sources})


def samples_of(source: Mixture, folder: Path, cut: Cut | None = None) -> Samples:
    tokenizer = build_tokenizer(Character(), source.texts)
    return Samples(build_cache(source, tokenizer, folder / "caches"), tokenizer, cut or Cut())


@settings(max_examples=40, deadline=None)
@given(
    weights=st.lists(st.floats(0.1, 10), min_size=2, max_size=5),
    sizes=st.lists(st.integers(1, 500), min_size=5, max_size=5),
    seed=st.integers(0, 1000),
    first=st.integers(0, 3 * BLOCK),
)
def test_shares_are_exact_and_every_pass_meets_every_sample_once(
    weights: list[float], sizes: list[int], seed: int, first: int
) -> None:
    bounds = [0, *np.cumsum(sizes[: len(weights)]).tolist()]
    mixing = Mixing.of(weights, bounds)
    index_A, pass_A = mixing.order(seed, 0, 3 * BLOCK)
    part_A = np.searchsorted(bounds, index_A, side="right") - 1
    for block in range(3):
        counts = np.bincount(part_A[block * BLOCK : (block + 1) * BLOCK], minlength=len(weights))
        assert np.abs(counts - np.asarray(weights) / sum(weights) * BLOCK).max() < 1
    for part in range(len(weights)):
        mine = index_A[part_A == part]
        assert pass_A[part_A == part].tolist() == (np.arange(len(mine)) // sizes[part]).tolist()
        whole = mine[: len(mine) // sizes[part] * sizes[part]].reshape(-1, sizes[part])
        assert (np.sort(whole, axis=1) == np.arange(bounds[part], bounds[part + 1])).all()
    later = mixing.order(seed, first, first + 700)
    again = mixing.order(seed, 0, first + 700)
    assert (later[0] == again[0][first:]).all()
    assert (later[1] == again[1][first:]).all()


def test_a_stream_of_a_mixture_goes_on_where_it_stood(tmp_path: Path) -> None:
    source = mixture(tmp_path)
    samples = samples_of(source, tmp_path)
    mixing = Mixing.of(source.weights, samples.part_bounds())
    assert mixing == Mixing((0, 40, 340), (750, 250))
    stream = Stream(samples, seed=5, batch_tokens=64, max_samples=1000, mixing=mixing)
    steps = list(stream.steps())
    drawn = np.concatenate([step.samples_D for step in steps])
    assert (drawn < 40).sum() == 750
    assert (
        len(set(zip(drawn.tolist(), np.concatenate([step.epochs_D for step in steps]).tolist(), strict=True))) == 1000
    )
    met = sum(len(step) for step in steps[:7])
    for rest, step in zip(stream.steps(met), steps[7:], strict=True):
        assert rest.samples_D.tolist() == step.samples_D.tolist()


@pytest.mark.parametrize("too_long", ["error", "window"])
def test_some_of_each_source_is_held_out(tmp_path: Path, too_long: Any) -> None:
    source = mixture(tmp_path, length=1 if too_long == "error" else 60)
    samples = samples_of(source, tmp_path, Cut(max_length=12, too_long=too_long))
    train, held = samples.split(0.1, seed=3)
    first, middle, last = train.part_bounds()
    assert (first, last) == (0, len(train))
    letters = [
        train.tokenizer.decode(train.gather(np.array([at]), np.zeros(1)).ids_T.tolist())[0] for at in range(last)
    ]
    assert not any("b" in text for text in letters[:middle])
    assert not any("a" in text for text in letters[middle:])
    held_a, held_b = np.diff(held.part_bounds())
    assert held_a > 0
    assert held_b > held_a

    def tokens(part: Samples) -> set[int]:
        places = part.store_paths(np.arange(len(part), dtype=np.int64))
        return set(places[places >= 0].tolist())

    assert not tokens(train) & tokens(held)
    if too_long == "error":
        assert (len(train), len(held)) == (306, 34)


def test_weights_change_no_token_and_sources_do(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(Kmer(k=1), lambda: iter(()))

    def fingerprint(source: Mixture) -> str:
        return cache_fingerprint(source, tokenizer, None, tmp_path / "caches")

    one = fingerprint(mixture(tmp_path))
    assert one == fingerprint(mixture(tmp_path, (1, 1)))
    swapped = mixture(tmp_path).model_copy(update={"sources": mixture(tmp_path).sources[::-1]})
    assert one != fingerprint(swapped)


def test_what_is_no_mixture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sources.1.weight: 1.0 is less than one sample in 1,000"):
        Mixing.of([1e4, 1.0], [0, 4, 8])
    with pytest.raises(ConfigError, match=r"sources.1: has no sample"):
        Mixing.of([1, 1], [0, 4, 4])
    text = "{weight: 1, source: {kind: text, path: x}}"
    for other, said in (
        ("{weight: 1, source: {kind: fasta, path: x}}", "all genomes"),
        ("{weight: 1, source: {kind: csv, path: x, label: y}}", "one label_kind"),
        ("{weight: 1, source: {kind: csv, path: x, completion: y}}", "learned whole"),
        ("{weight: 0, source: {kind: text, path: x}}", "weight"),
    ):
        with pytest.raises(ConfigError, match=said):
            load(f"train: {{kind: mixture, sources: [{text}, {other}]}}", DataConfig)
    with pytest.raises(ConfigError, match="of a mixture cannot be held out"):
        load(f"train: {{kind: mixture, sources: [{text}, {text}]}}\neval: {{column: a, value: b}}", DataConfig)


def test_a_further_file_is_read_like_the_source_of_its_kind(tmp_path: Path) -> None:
    found = source_like(mixture(tmp_path), tmp_path / "new.txt", labelled=True)
    assert isinstance(found, Text)
    assert found.separation == "line"
