"""Measure only: every token once, frozen weights, and agreement with the slow way."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from instar.core.errors import CheckpointError, OutputError, TrainingError, UsageError
from instar.inference.evaluate import evaluation_mode
from instar.inference.probe import base_tables, passes_of
from instar.run.saved import take_up
from instar.run.train import train
from instar.tracks.probe import Asked, probe
from instar.tracks.stored import open_stored
from instar.trainer.callbacks.untouched import must_be_untouched, weights_digest
from tests.batches import packed

RUN = """
model: {{config: bert, num_layers: 2, hidden_size: 48, num_heads: 4, intermediate_size: 96, max_length: 34,
  dropout: 0.0, initializer_range: 0.08}}
tokenizer: {{kind: kmer, k: 1}}
task: {{kind: mlm, rate: 0.2, mask_share: 1.0}}
data: {{train: {{kind: fasta, path: {genome}}}, max_length: 34, too_long: window, cache: {cache}}}
train: {{budget: "150 steps", batch_samples: 16, optimizer: {{kind: adamw, lr: 5e-3}}, threads: 1,
  save_every: "900 steps"}}
"""
EASY = "A" * 255 + "C" * 255
"""What even a small network soon says well."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learnt a genome: repeats it can tell, and noise that nobody can."""
    folder = tmp_path_factory.mktemp("probe")
    rng = np.random.default_rng(1)
    noise = "".join(rng.choice(list("ACGT"), 512))
    (folder / "genome.fa").write_text(f">one\n{EASY}NN{noise}\n")
    (folder / "run.yaml").write_text(RUN.format(genome=folder / "genome.fa", cache=folder / "cache"))
    train(folder / "run.yaml", output=folder / "run")
    probe(folder / "run" / "checkpoint-150", folder / "probe", Asked(rate=0.2))
    return folder


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.floats(0.05, 1), st.integers(0, 2**62))
def test_every_place_comes_exactly_once(lengths: list[int], rate: float, key: int) -> None:
    batch = packed(lengths)
    passes = list(passes_of(batch, rate, key))
    assert len(passes) == int(np.ceil(1 / rate - 1e-9))
    together = np.concatenate(passes)
    assert sorted(together.tolist()) == np.flatnonzero(batch.maskable_T.numpy()).tolist()
    edges = np.asarray(batch.boundaries)
    for one in passes:
        held = np.histogram(one, edges)[0]
        assert (held <= np.ceil(rate * np.maximum(0, np.array(lengths) - 2)) + 1).all()


def test_values_are_known_of_every_base_but_of_gaps(place: Path) -> None:
    stored = open_stored(place / "probe")
    assert set(stored.stores) == {
        "p_true", "nll", "reciprocal_rank", "entropy", *(f"probability_{base}" for base in "ACGT"),
    }  # fmt: skip
    for name in stored.stores:
        known = ~np.isnan(stored.track(name)["one"])
        assert known[:510].all()
        assert not known[510:512].any()
        assert known[512:].all()


def test_repeats_are_easy_and_noise_is_hard(place: Path) -> None:
    track = open_stored(place / "probe").track("p_true")["one"]
    assert track[:510].mean() > 0.8
    assert track[512:].mean() < 0.45


def test_measures_belong_together(place: Path) -> None:
    stored = open_stored(place / "probe")
    tracks = {name: stored.track(name)["one"] for name in stored.stores}
    known = ~np.isnan(tracks["p_true"])
    nll = tracks["nll"][known] * stored.stores["nll"].schema.scale
    kept = nll < stored.stores["nll"].schema.scale * 0.99
    np.testing.assert_allclose(tracks["p_true"][known][kept], np.exp(-nll[kept]), rtol=0.01, atol=2e-3)
    first = tracks["reciprocal_rank"][known] == 1
    assert (tracks["p_true"][known][tracks["p_true"][known] > 0.5] > 0.5).all()
    assert first[tracks["p_true"][known] > 0.501].all()
    bases = np.stack([tracks[f"probability_{base}"][known] for base in "ACGT"])
    np.testing.assert_allclose(bases.sum(0), 1, atol=5e-3)
    sequence = EASY + (place / "genome.fa").read_text().split("NN")[1].strip()
    right = bases[["ACGT".index(base) for base in sequence], np.arange(known.sum())]
    np.testing.assert_allclose(right, tracks["p_true"][known], atol=0.05)


def test_a_value_is_what_the_network_says_of_that_place(place: Path) -> None:
    saved = take_up(place / "run" / "checkpoint-150")
    stored = open_stored(place / "probe")
    from instar.data.located import Located
    from instar.data.samples import Cut, Samples

    samples = Located(
        Samples(stored.cache, saved.tokenizer, Cut(max_length=34, too_long="window")), stored.offsets.first_N[:-1]
    )
    batch = samples.gather(np.arange(3), np.zeros(3, dtype=np.int64))
    index_M = next(passes_of(batch, 0.2, saved.config.seed))
    ids = batch.ids_T.clone()
    ids[index_M] = saved.tokenizer.mask_id
    from dataclasses import replace

    masked = replace(batch, ids_T=ids, read_M=torch.from_numpy(index_M))
    with torch.no_grad(), evaluation_mode(saved.network):
        p_MV = torch.softmax(saved.network(masked).logits_MV(), -1)
    wanted = p_MV.gather(1, batch.ids_T[index_M][:, None])[:, 0].numpy()
    arrays = stored.stores["p_true"].mapped.arrays["value"]
    np.testing.assert_allclose(arrays[batch.starts_T.numpy()[index_M]].astype(np.float32), wanted, atol=1e-3)


def test_letters_of_longer_tokens_are_summed_over_the_tokens_that_have_them() -> None:
    tables = base_tables(("AC", "AT", "G", ""))
    p = torch.tensor([0.5, 0.2, 0.2, 0.1])
    probabilities = torch.einsum("v,kvb->kb", p, tables)
    np.testing.assert_allclose(probabilities.numpy(), [[0.7, 0, 0.2, 0], [0, 0.5, 0, 0.2]], atol=1e-6)


# ---- the slow way ----


def test_a_frozen_run_measures_what_the_probe_measures(place: Path, tmp_path: Path) -> None:
    """Uniform masking for many passes, with the values averaged: a mean over maskings, of which the probe makes one."""
    text = RUN.format(genome=place / "genome.fa", cache=place / "cache")
    text = text.replace(text[text.index("model:") : text.index("tokenizer:")], "model: {from: CHECKPOINT}\n")
    text = text.replace("CHECKPOINT", str(place / "run" / "checkpoint-150"))
    text = text.replace("tokenizer: {kind: kmer, k: 1}\n", "")
    (tmp_path / "run.yaml").write_text(text)
    masking = "task.masking={kind: adaptive, uniform: 1.0, update: 0.2, dtype: float16}"
    budget = ("train.frozen=true", "train.budget=30 epochs", masking)
    result = train(tmp_path / "run.yaml", budget, output=tmp_path / "run")
    before = take_up(place / "run" / "checkpoint-150").network
    after = take_up(Path(result["checkpoint"])).network
    assert weights_digest(before) == weights_digest(after)
    slow = 1 - open_stored(tmp_path / "run").track("one_minus_p")["one"]
    quick = open_stored(place / "probe").track("p_true")["one"]
    known = ~np.isnan(slow) & ~np.isnan(quick)
    assert known.sum() > 900
    assert np.corrcoef(slow[known], quick[known])[0, 1] > 0.9
    assert abs(slow[known].mean() - quick[known].mean()) < 0.05


def test_a_weight_that_moves_is_found() -> None:
    network = nn.Linear(3, 3)
    before = weights_digest(network)
    must_be_untouched(network, before)
    with torch.no_grad():
        network.bias[1] += 1e-7
    with pytest.raises(TrainingError, match="were to stay as they are, and changed"):
        must_be_untouched(network, before)


# ---- what it is used for ----


def test_a_probe_is_the_reference_of_excess(place: Path, tmp_path: Path) -> None:
    """What a model that has learnt says well, and the new one does not: repeats count, noise hardly does."""
    reference = place / "probe" / "probe" / "nll"
    masking = f"task.masking={{kind: adaptive, statistic: excess, reference: '{reference}', dtype: float16}}"
    train(place / "run.yaml", ("train.budget=12 steps", masking), output=tmp_path / "run")
    track = open_stored(tmp_path / "run").track("excess")["one"]
    assert np.nanmean(track[:510]) > 1.2 * np.nanmean(track[512:])
    (tmp_path / "other.fa").write_text(">one\n" + "ACGT" * 60 + "\n")
    other = masking.replace("/nll'", "/entropy'")
    with pytest.raises(CheckpointError, match="a reference holds nll"):
        train(place / "run.yaml", ("train.budget=2 steps", other), output=tmp_path / "second")


def test_another_file_may_be_probed(place: Path, tmp_path: Path) -> None:
    (tmp_path / "other.fa").write_text(">two\n" + "A" * 150 + "\n")
    asked = Asked(data=tmp_path / "other.fa", rate=0.25, tracks="bedgraph")
    result = probe(place / "run" / "checkpoint-150", tmp_path / "out", asked)
    assert result["tokens"] == 150
    assert result["mean_p_true"] > 0.7
    assert (tmp_path / "out" / "p_true.bedgraph").read_text().startswith("two\t0\t")
    assert json.loads((tmp_path / "out" / "probe.json").read_text())["tokens"] == 150


def test_probes_that_cannot_be(place: Path, tmp_path: Path) -> None:
    checkpoint = place / "run" / "checkpoint-150"
    with pytest.raises(OutputError, match="is there already"):
        probe(checkpoint, place / "probe", Asked())
    with pytest.raises(UsageError, match="wanted a number above 0"):
        probe(checkpoint, tmp_path / "out", Asked(rate=0.0))
    with pytest.raises(UsageError, match="wanted a number above 0"):
        probe(checkpoint, tmp_path / "out", Asked(rate=1.5))
