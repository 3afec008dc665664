"""The probability store: what it reads and writes, how it comes back, and what it refuses."""

import os
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.core.errors import CheckpointError
from instar.masking import journal, value_arrays
from instar.masking.offsets import CharacterOffsets, CodedMeans, Spans, gathered, token_means
from instar.masking.store import Measured, ProbabilityStore, StoreLearner, reset_store
from instar.masking.update import Rule
from instar.masking.value_arrays import Decoder, encode, read_header
from tests.masking.stores import CHARACTERS, LAYOUT, content, drawn, opened, spans, written

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where syncing costs nothing."""
SPANS = st.lists(st.tuples(st.integers(0, CHARACTERS - 12), st.integers(0, 12)), min_size=1, max_size=30)


# ---- numbers ----


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50), st.sampled_from(["uint8", "float16"]))
def test_a_value_comes_back_within_the_types_resolution_and_is_never_unseen(values: list[float], dtype: str) -> None:
    codes = encode(np.array(values, dtype=np.float32), dtype)
    assert (codes != 0).all()
    back = Decoder(dtype, -1.0)(codes)
    assert np.abs(back - values).max() <= (0.5 / 254 + 1e-6 if dtype == "uint8" else 2**-11)


def test_unseen_is_the_prior_and_not_a_value() -> None:
    """A bool store could not say it: what was never seen came back as True."""
    assert Decoder("uint8", 0.75)(np.array([0, 1, 255], dtype=np.uint8)).tolist() == [0.75, 0.0, 1.0]
    assert encode(np.array([np.nan], dtype=np.float32), "uint8").tolist() == [0]


@given(SPANS, st.integers(0, 2**32 - 1))
def test_reading_is_the_mean_over_a_tokens_characters(pairs: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, CHARACTERS).astype(np.uint8)
    arrays = np.where(codes == 0, 0.5, (codes.astype(float) - 1) / 254)
    asked = spans(*pairs)
    got = token_means(Decoder("uint8", 0.5)(gathered(codes, asked)), asked.length_T)
    wanted = [arrays[start : start + length].mean() if length else np.nan for start, length in pairs]
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    table = np.rint(Decoder("uint8", 0.5)(np.arange(256).astype(np.uint8)) * 2.0**20).astype(np.int64)
    means = CodedMeans(table, 1 << 20)
    for _ in range(2):  # its memory is used again
        quick = means(codes, asked)
        np.testing.assert_allclose(quick, wanted, atol=2e-6)


def test_tokens_end_to_end_are_read_alike_one_by_one_and_as_a_piece() -> None:
    codes = np.arange(250, dtype=np.uint8)
    tiled = Spans(np.cumsum([0, *[3] * 40]), np.full(41, 3))
    assert (gathered(codes, tiled) == codes[tiled.characters()]).all()
    means = CodedMeans(np.arange(256), 1)
    each = [codes[3 * token : 3 * token + 3].mean() for token in range(41)]
    np.testing.assert_allclose(means(codes, tiled), each)
    one_by_one = np.concatenate([means(codes, tiled[np.array([token])]) for token in range(41)])
    assert (means(codes, tiled) == one_by_one).all()


def test_a_store_of_unseen_characters_reads_the_prior(tmp_path: Path) -> None:
    store = opened(tmp_path / "s", prior=0.3)
    np.testing.assert_allclose(store.read(spans((0, 4), (9, 1))), 0.3, rtol=1e-6)
    assert np.isnan(store.read(spans((0, 4), (9, 0)))[1])


def test_what_is_written_is_read_and_the_later_of_two_that_overlap_counts(tmp_path: Path) -> None:
    store = opened(tmp_path / "s", prior=0.0)
    measured = Measured(0, spans((10, 4), (12, 4)), np.array([1.0, 0.5], np.float32), np.zeros(2, np.int64))
    store.apply(store.change(measured))
    np.testing.assert_allclose(store.read(spans((10, 2), (12, 4), (16, 1))), [1.0, 0.5, 0.0], atol=0.003)


def test_a_forgotten_base_is_raised_again(tmp_path: Path) -> None:
    """With the original's threshold a value could only fall."""
    store = opened(tmp_path / "s")
    for step, value in enumerate([0.9, 0.1, 0.8]):
        store.apply(
            store.change(Measured(step, spans((5, 3)), np.array([value], np.float32), np.zeros(1, dtype=np.int64)))
        )
        assert store.read(spans((5, 3)))[0] == pytest.approx(value, abs=0.003)


@given(st.floats(0.01, 0.99), st.lists(st.floats(0, 1, width=32), min_size=1, max_size=8))
def test_the_average_moves_by_its_rate_and_arrives(rate: float, values: list[float]) -> None:
    rule, codes = Rule(rate=rate), np.zeros(1, np.uint8)
    exact = np.nan
    for value in values:
        exact = value if np.isnan(exact) else exact + rate * (value - exact)
        before = codes
        codes = rule.codes(codes, np.array([value], np.float32), np.array([1]))
        target = encode(np.array([value], np.float32), "uint8").astype(int)
        assert codes != 0
        assert abs(int(codes[0]) - int(target[0])) <= abs(int(before[0]) - int(target[0])) or before[0] == 0
    for _ in range(255):
        codes = rule.codes(codes, np.array([0.25], np.float32), np.array([1]))
    assert Decoder("uint8", 0)(codes)[0] == pytest.approx(0.25, abs=0.003), "rounding stopped it on its way"


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_the_average_replaces_what_was_never_seen(dtype: str) -> None:
    rule = Rule(rate=0.1, dtype=dtype)
    old = np.zeros(2, np.uint8 if dtype == "uint8" else np.float16)
    codes = rule.codes(old, np.array([0.5], np.float32), np.array([2]))
    np.testing.assert_allclose(Decoder(dtype, 0)(codes), 0.5, atol=0.003)


def test_what_was_not_seen_for_long_goes_back_to_the_prior(tmp_path: Path) -> None:
    store = opened(tmp_path / "s", decay=0.5, tick=100)
    store.apply(store.change(Measured(0, spans((0, 2)), np.zeros(1, np.float32), np.zeros(1, np.int64))))
    found = [store.read(spans((0, 2)), step)[0] for step in (0, 100, 200, 10_000)]
    np.testing.assert_allclose(found, [0, 0.5, 0.75, 1], atol=0.01)
    np.testing.assert_allclose(store.read(spans((9, 2)), 10_000), 1.0)


def test_learning_progress_is_how_far_the_recent_lies_below_the_past(tmp_path: Path) -> None:
    store = opened(tmp_path / "s", rate=0.8, prior=0.6, channels=("value", "slow"), statistic="progress")
    for step, (easy, stuck) in enumerate([(1.0, 0.9), (0.4, 0.9), (0.2, 0.9)]):
        values = np.array([easy, stuck], np.float32)
        store.apply(store.change(Measured(step, spans((0, 3), (3, 3)), values, np.zeros(2, np.int64))))
    learnt, stuck, unseen = store.read(spans((0, 3), (3, 3), (6, 3)))
    assert learnt > 0.4
    assert stuck == pytest.approx(0, abs=0.01)
    assert unseen == pytest.approx(0.6)


def test_a_value_that_is_no_number_is_not_written(tmp_path: Path) -> None:
    store = opened(tmp_path / "s")
    values = np.array([np.nan, np.inf, 0.5], np.float32)
    change = store.change(Measured(0, spans((0, 2), (2, 2), (4, 2)), values, np.zeros(3, np.int64)))
    assert change.spans.start_T.tolist() == [4]


def test_the_scale_is_the_value_stored_as_one(tmp_path: Path) -> None:
    store = opened(tmp_path / "s", statistic="nll", scale=4.0)
    values = np.array([1.0, 9.0], np.float32)
    store.apply(store.change(Measured(0, spans((0, 1), (1, 1)), values, np.zeros(2, np.int64))))
    np.testing.assert_allclose(store.read(spans((0, 1), (1, 1))), [0.25, 1.0], atol=0.003)


# ---- offsets ----


def test_documents_lie_end_to_end() -> None:
    assert LAYOUT.num_characters == CHARACTERS
    assert LAYOUT.at(1, 7) == 157


def test_another_corpus_has_another_fingerprint() -> None:
    same = CharacterOffsets.of(np.array([150, 250]), "a corpus")
    assert same.fingerprint == LAYOUT.fingerprint
    assert CharacterOffsets.of(np.array([150, 250]), "another").fingerprint != LAYOUT.fingerprint
    assert CharacterOffsets.of(np.array([250, 150]), "a corpus").fingerprint != LAYOUT.fingerprint


# ---- coming back ----


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 12),
    st.integers(0, 12),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1.0, 0.3]),
    st.one_of(st.none(), st.integers(0, 12)),
)
def test_a_checkpoints_state_comes_back_exactly(
    at: int, more: int, ranks: int, rate: float, compact: int | None
) -> None:
    """Written on past the checkpoint, compacted before it: the state after `at` steps is what it was."""
    with TemporaryDirectory(dir=MEMORY) as place:
        comes_back(Path(place), at, more, compact, {"ranks": ranks, "rate": rate, "tick": 4})


def comes_back(folder: Path, at: int, more: int, compact: int | None, options: dict[str, Any]) -> None:
    wanted, _ = written(folder / "reference", range(max(0, at - 1)), **options)
    written(folder / "s", range(at + more), **options)
    _, reached = written(folder / "longer", range(at), **options)
    store = opened(folder / "s", rate=options["rate"], tick=4)
    if compact is not None and compact <= at:
        _, early = written(folder / "compact", range(compact - 1), **options)
        store.compact(early, compact)
    pending = store.restore(reached, at)
    assert content(store) == content(wanted)
    assert {change.step for change in pending} == ({at - 1} if at else set())
    for change in pending:
        store.apply(change)
    longer, _ = written(folder / "whole", range(at), **options)
    assert content(store) == content(longer)


def test_going_on_after_a_restore_gives_the_store_that_was_never_left(tmp_path: Path) -> None:
    wanted, _ = written(tmp_path / "whole", range(9), rate=0.4)
    written(tmp_path / "s", range(7), rate=0.4)
    _, positions = written(tmp_path / "upto", range(5), rate=0.4)
    store = opened(tmp_path / "s", rate=0.4)
    for change in store.restore(positions, 5):
        store.apply(change)
    assert journal.cut(tmp_path / "s", 0, positions["0"]) > 0
    learner = StoreLearner(store, 0, positions["0"])
    for step in range(5, 9):
        store.apply(learner.flush(drawn(step)))
    learner.close()
    assert content(store) == content(wanted)
    again = opened(tmp_path / "s", rate=0.4)
    assert again.latest() == []
    assert content(again) == content(wanted)


def test_a_fold_that_was_broken_off_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, positions = written(tmp_path / "s", range(8))
    _, early = written(tmp_path / "upto", range(5))
    changes = iter(range(3))

    def dies(self: ProbabilityStore, record: journal.Record) -> object:
        next(changes)
        return original(self, record)

    original = ProbabilityStore.change_of
    store = opened(tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr(ProbabilityStore, "change_of", dies)
        with pytest.raises(StopIteration):
            store.compact(early, 5)
    store = opened(tmp_path / "s")
    assert read_header(tmp_path / "s").compacted == early
    store.restore(positions, 1 << 40)
    assert content(store) == content(wanted)


def test_a_fold_frees_old_segments_and_an_older_checkpoint_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1000)
    store = opened(tmp_path / "s")
    learner, positions = StoreLearner(store, 0, 0), []
    for step in range(12):
        store.apply(learner.flush(drawn(step)))
        learner.sync()
        positions.append({"0": learner.journal.position})
    learner.close()
    wanted = content(store)
    before = len(journal.segments(tmp_path / "s"))
    store.compact(positions[8], 9)
    assert len(journal.segments(tmp_path / "s")) < before
    back = opened(tmp_path / "s")
    back.restore(positions[11], 1 << 40)
    assert content(back) == wanted
    with pytest.raises(CheckpointError, match=r"compacted up to step 9.*step 3"):
        back.restore(positions[2], 3)


def test_beginning_anew_forgets_all(tmp_path: Path) -> None:
    store, positions = written(tmp_path / "s", range(4))
    store.compact(positions, 4)
    reset_store(tmp_path / "s")
    store = opened(tmp_path / "s")
    assert store.latest() == []
    assert not any(any(part) for part in content(store).values())
    assert journal.segments(tmp_path / "s") == []


def test_a_store_of_a_genome_opens_at_once_and_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_arrays, "reserve", lambda file, size: file.truncate(size))  # the disk may be smaller
    size, kept = 3_100_000_000, {"num_characters": 3_100_000_000, "fingerprint": "f" * 64}
    opened(tmp_path / "s", **kept)
    began = time.process_time()
    store = opened(tmp_path / "s", **kept)
    assert time.process_time() - began < 1.0, "seconds of CPU: reading the values would take several"
    rng = np.random.default_rng(0)
    where = Spans(rng.integers(0, size - 9, 1000), np.full(1000, 6))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (store.read(where) == 1.0).all()
    store.apply(store.change(Measured(0, where, np.zeros(1000, np.float32), np.zeros(1000, np.int64))))
    assert store.read(where).max() < 0.1
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert taken < 100_000, "KiB"
