"""Every policy keeps its share, masks no special, and masks a document alike in any company."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.core.errors import ConfigError, DataError, InputMissingError
from instar.data import Batch
from instar.data.tokenizer import Tokenizer, build_tokenizer
from instar.data.tokenizer import WordPiece as WordPieceConfig
from instar.masking import Adaptive, Bernoulli, Frequency, Policy, Span, Static, TypeAverage, Uniform, WholeWord
from instar.task.mlm import MaskedLM
from tests.batches import packed
from tests.masking.informed import RATES, informed, located, tokenizer

# ---- the share ----


def skewed(kind: str, size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return {
        "mostly easy": np.where(rng.random(size) < 0.8, 0.02, 1.0),
        "nearly all easy": np.where(rng.random(size) < 0.9, 0.02, 1.0),
        "right or wrong, 98 % right": (rng.random(size) < 0.02).astype(float),
        "all zero": np.zeros(size),
        "all unseen": np.full(size, np.nan),
        "one": np.eye(1, size, size // 2)[0],
        "random": rng.random(size) ** 8,
    }[kind]


KINDS = ["mostly easy", "nearly all easy", "right or wrong, 98 % right", "all zero", "all unseen", "one", "random"]


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(KINDS),
    st.lists(st.integers(20, 400), min_size=30, max_size=60),
    st.floats(0.05, 0.6),
    st.sampled_from(["row", "batch"]),
    st.integers(0, 2**62),
)
def test_the_share_is_kept_whatever_the_store_holds(
    kind: str, lengths: list[int], rate: float, per: str, key: int
) -> None:
    batch = located(packed(lengths))
    policy = informed(Adaptive(per=per), skewed(kind, batch.num_tokens, key % 1000))
    maskable = int(batch.maskable_T.sum())
    realised = len(policy.choose(batch, rate, key)) / maskable
    assert abs(realised - rate) <= (0.005 if per == "row" else 1 / maskable)


@pytest.mark.parametrize(("kind", "collapsed"), [("mostly easy", 0.222), ("nearly all easy", 0.147)])
def test_the_rule_it_began_with_loses_the_budget_that_adaptive_keeps(kind: str, collapsed: float) -> None:
    batch = located(packed([512] * 200))
    values = skewed(kind, batch.num_tokens, 3)
    first = informed(Bernoulli(adaptive_samples=1.0), values).choose(batch, 0.3, 5)
    ours = informed(Adaptive(), values).choose(batch, 0.3, 5)
    maskable = 510 * 200
    assert len(first) / maskable == pytest.approx(collapsed, abs=0.01)
    assert len(ours) / maskable == pytest.approx(0.3, abs=0.001)


def test_the_first_rule_masks_some_samples_uniformly_and_zeros_alike() -> None:
    batch = located(packed([202] * 400))
    values = np.tile(np.where(np.arange(202) < 101, 0.0, 1.0), 400)
    half = informed(Bernoulli(adaptive_samples=0.5), values).choose(batch, 0.15, 1)
    easy = (half % 202 < 101).mean()
    assert easy == pytest.approx(0.25, abs=0.03)  # uniform samples only hide easy ones
    none = informed(Bernoulli(adaptive_samples=1.0), np.zeros(202 * 400)).choose(batch, 0.15, 1)
    assert len(none) / (200 * 400) == pytest.approx(0.15, abs=0.005)


def test_hard_tokens_are_hidden_more_and_none_is_left_alone() -> None:
    batch = located(packed([402] * 50))
    values = np.where(np.arange(402 * 50) % 2, 0.9, 0.05)
    policy = informed(Adaptive(floor=0.02, uniform=0.1), values)
    counts = np.zeros(402 * 50)
    for key in range(150):
        counts[policy.choose(batch, 0.2, key)] += 1
    inner = batch.maskable_T.numpy()
    hard = values > 0.5
    assert counts[inner & hard].mean() > 5 * counts[inner & ~hard].mean()
    assert counts[inner & ~hard].mean() / 150 > 0.02
    assert (counts[inner & hard] > 0).all()


def test_lower_case_has_a_weight_of_its_own() -> None:
    batch = located(packed([202] * 50))
    batch = replace(batch, lower_T=torch.arange(batch.num_tokens) % 2 == 0)
    options: dict[str, Any] = {"floor": 0.0, "uniform": 0.0}
    values = np.full(batch.num_tokens, 0.5)
    even = informed(Adaptive(**options), values).choose(batch, 0.2, 1)
    few = informed(Adaptive(**options, lower_case=0.1), values).choose(batch, 0.2, 1)
    assert len(even) == len(few)
    assert (even % 2 == 0).mean() == pytest.approx(0.5, abs=0.05)
    assert (few % 2 == 0).mean() == pytest.approx(1 / 11, abs=0.03)


def test_the_shuffled_control_hides_as_much_and_not_the_same() -> None:
    batch = located(packed([402] * 20))
    values = np.where(np.arange(402 * 20) % 402 < 200, 1.0, 0.0)
    options: dict[str, Any] = {"floor": 0.0, "uniform": 0.0}
    hard = informed(Adaptive(**options), values).choose(batch, 0.3, 1)
    control = informed(Adaptive(**options, shuffled=True), values).choose(batch, 0.3, 1)
    assert len(hard) == len(control)
    assert (hard % 402 < 200).mean() > 0.99
    assert (control % 402 < 200).mean() == pytest.approx(0.5, abs=0.05)


def test_temperature_and_prior() -> None:
    batch = located(packed([402]))
    values = np.where(np.arange(402) % 2, 0.9, 0.3)
    options: dict[str, Any] = {"floor": 0.0, "uniform": 0.0}
    shares = [
        (informed(Adaptive(**options, temperature=heat), values).choose(batch, 0.2, 1) % 2).mean()
        for heat in (0.2, 1.0, 5.0)
    ]
    assert shares[0] > shares[1] > shares[2] > 0.5
    unseen = np.where(np.arange(402) % 2, np.nan, 0.5)
    low = informed(Adaptive(**options, prior=0.05), unseen).choose(batch, 0.2, 1)
    assert (low % 2).mean() < 0.2


# ---- the other policies ----


def test_rare_tokens_are_hidden_more_over_the_whole_step() -> None:
    batch = packed([502] * 20, vocab_size=17)
    ids = batch.ids_T.numpy()
    policy = Frequency(power=1.0).build(tokenizer())
    counts = np.full(17, 10**6)
    counts[5:8] = 10
    policy.count(counts)
    positions = policy.choose(batch, 0.15, 3)
    assert len(positions) == pytest.approx(0.15 * 500 * 20, abs=1)
    assert np.isin(ids[positions], [5, 6, 7]).mean() > 0.99
    assert batch.maskable_T.numpy()[positions].all()


def test_type_averages_learn_and_come_back() -> None:
    policy = TypeAverage(update=0.5, floor=0.0).build(tokenizer())
    start = policy.average_V[6]
    policy.learn(np.array([5, 5, 6, 7]), np.array([1.0, 3.0, np.nan, 0.0], np.float32))
    assert policy.average_V[5] == pytest.approx(start + 0.5 * (2 - start))
    assert policy.average_V[6] == start
    other = TypeAverage(update=0.5, floor=0.0).build(tokenizer())
    other.load_state_dict(json.loads(json.dumps(policy.state_dict())))
    assert (other.average_V == policy.average_V).all()
    for _ in range(20):
        policy.learn(np.arange(5, 12), np.zeros(7, np.float32))
    batch = packed([502], vocab_size=17)
    ids = batch.ids_T.numpy()[policy.choose(batch, 0.2, 1)]
    assert (ids >= 12).mean() > 0.95


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 80), min_size=1, max_size=6), RATES, st.integers(0, 2**62), st.integers(1, 12))
def test_spans_keep_the_share_exactly(lengths: list[int], rate: float, key: int, longest: int) -> None:
    batch = packed(lengths)
    positions = Span(longest=longest).choose(batch, rate, key)
    assert batch.maskable_T.numpy()[positions].all()
    assert (np.diff(positions) > 0).all()
    edges = np.asarray(batch.boundaries)
    for low, high in itertools.pairwise(edges):
        count = ((positions >= low) & (positions < high)).sum()
        assert abs(count - rate * max(0, high - low - 2)) < 1


def test_spans_are_long_and_stay_within_documents() -> None:
    batch = packed([202] * 200)
    runs = [np.diff(np.flatnonzero(np.diff(np.append(positions, -9)) != 1), prepend=-1) for positions in
            (Span().choose(batch, 0.1, 1), Uniform().choose(batch, 0.1, 1))]  # fmt: skip
    assert runs[0].mean() > 2.5 * runs[1].mean()
    assert np.percentile(runs[0], 50) >= 2


def words() -> Tokenizer:
    text = "unbelievable remarkable understanding walking talked talking walked " * 30
    return build_tokenizer(WordPieceConfig(vocab_size=60), lambda: iter([text]))


def test_words_are_hidden_whole() -> None:
    made = words()
    text = "unbelievable talking remarkable walked understanding"
    ids = made.encode_batch([text])[0].ids.astype(np.int64)
    blocks = made.tokens(ids.tolist())
    assert any(piece.startswith("##") for piece in blocks)
    lengths = (len(ids),) * 300
    batch = Batch(
        ids_T=torch.from_numpy(np.tile(ids, 300)),
        lengths=lengths,
        samples_D=np.arange(300),
        epochs_D=np.zeros(300, dtype=np.int64),
    )
    positions = WholeWord().build(made).choose(batch, 0.3, 1)
    masked = np.zeros(batch.num_tokens, dtype=bool)
    masked[positions] = True
    begins = np.array([not piece.startswith("##") for piece in blocks])
    word = np.tile(np.cumsum(begins) - 1, 300) + np.repeat(np.arange(300) * begins.sum(), len(ids))
    size, count = np.bincount(word), np.bincount(word, masked)
    assert ((count == 0) | (count == size)).all()
    assert masked.mean() == pytest.approx(0.3, abs=0.02)
    assert 0.2 < masked.reshape(300, -1)[:, 0].mean() < 0.4


def test_words_need_a_tokenizer_that_marks_them() -> None:
    with pytest.raises(ConfigError, match="marks where words begin"):
        WholeWord().build(tokenizer())


def test_chances_from_a_file(tmp_path: Path) -> None:
    made = tokenizer()
    path = tmp_path / "probabilities.json"
    path.write_text(json.dumps({"AC": 1.0, "GT": 0.5}))
    policy = Static(path=str(path)).build(made)
    assert policy.weight_V.sum() == 1.5
    path.write_text(json.dumps([1.0] * made.vocab_size))
    positions = Static(path=str(path)).build(made).choose(packed([102], vocab_size=17), 0.2, 1)
    assert len(positions) == 20


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not JSON"),
        ("3", "wanted an object or a list"),
        ("[1, 2]", "has 2 numbers; the vocabulary has"),
        ('{"XX": 1, "AC": 1}', r"1 tokens are not in the vocabulary, like \['XX'\]"),
        ('{"AC": -1}', "0 or more"),
        ('{"AC": 0}', "not all 0"),
        ('{"AC": NaN}', "0 or more"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "probabilities.json"
    path.write_text(text)
    with pytest.raises(DataError, match=told):
        Static(path=str(path)).build(tokenizer())
    with pytest.raises(InputMissingError, match=r"none\.json"):
        Static(path=str(tmp_path / "none.json")).build(tokenizer())


# ---- all of them ----


def policies(tmp_path: Path) -> dict[str, Policy]:
    path = tmp_path / "probabilities.json"
    made = tokenizer()
    path.write_text(json.dumps(np.linspace(0, 1, made.vocab_size).tolist()))
    values = np.random.default_rng(0).random(5000)
    return {
        "adaptive": informed(Adaptive(), values),
        "bernoulli": informed(Bernoulli(), values),
        "static": Static(path=str(path)).build(made),
        "type_average": TypeAverage().build(made),
        "span": Span(),
        "uniform": Uniform(),
        "frequency per row": Frequency(per="row").build(made),
    }


@pytest.mark.parametrize("name", ["adaptive", "bernoulli", "static", "type_average", "span", "uniform"])
def test_a_document_is_hidden_alike_in_any_company(name: str, tmp_path: Path) -> None:
    policy = policies(tmp_path)[name]
    batch = located(packed([40, 9, 63, 21, 2, 30], vocab_size=17))
    whole = policy.choose(batch, 0.4, 7)
    for chosen in ([0, 3], [2], [1, 4, 5]):
        part = batch.select(chosen)
        edges = np.asarray(batch.boundaries)
        wanted = [whole[(whole >= edges[d]) & (whole < edges[d + 1])] - edges[d] for d in chosen]
        starts = np.asarray(part.boundaries)[:-1]
        expected = np.concatenate([positions + start for positions, start in zip(wanted, starts, strict=True)])
        assert policy.choose(part, 0.4, 7).tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["adaptive", "bernoulli", "static", "type_average", "span", "frequency per row"])
def test_nothing_to_hide_gives_no_place(name: str, tmp_path: Path) -> None:
    assert len(policies(tmp_path)[name].choose(located(packed([2, 1, 2])), 0.5, 0)) == 0


# ---- run files ----


@pytest.mark.parametrize(
    "masking",
    [
        {"kind": "adaptive", "floor": 0.02, "decay": 0.01},
        {"kind": "bernoulli", "write_threshold": 0.5},
        {"kind": "frequency", "power": 0.3},
        {"kind": "type_average"},
        {"kind": "span", "stop": 0.3, "longest": 5},
        {"kind": "whole_word"},
        {"kind": "static", "path": "x.json"},
        {"per": "batch"},
    ],
)
def test_a_run_file_names_its_policy(masking: dict[str, Any]) -> None:
    found = MaskedLM.model_validate({"masking": masking}).masking
    assert found.kind == masking.get("kind", "uniform")


@pytest.mark.parametrize(
    ("masking", "told"),
    [
        ({"kind": "adaptive", "floor": 0.5, "ceiling": 0.2}, "floor must not be above ceiling"),
        ({"kind": "adaptive", "write_threshold": 0.5, "statistic": "nll"}, "needs statistic: one_minus_p"),
        ({"kind": "adaptive", "statistic": "excess"}, "belong together"),
        ({"kind": "adaptive", "statistic": "progress"}, "needs update below 1"),
        ({"kind": "adaptive", "temperature": 0}, "greater than 0"),
        ({"kind": "adaptiv"}, "adaptiv"),
    ],
)
def test_options_that_contradict_each_other_are_refused(masking: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        MaskedLM.model_validate({"masking": masking})
