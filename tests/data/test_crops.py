"""Samples that are cut again: where their tokens lie, what they may not touch, and what names their draws."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.data.batch import Batch
from instar.data.cache import TokenCache, build_cache
from instar.data.crops import CropOptions, Crops
from instar.data.located import Located, document_characters
from instar.data.samples import Cut, Samples
from instar.data.source import Fasta, Text
from instar.data.texts import build_texts
from instar.data.tokenizer import Bpe, Kmer, Tokenizer, build_tokenizer
from instar.genome.strand import mirrored, reverse_complement

LENGTH = 24


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two records with a gap of N and lower-case stretches."""
    rng = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    text = []
    for name, size in (("one", 900), ("two", 500)):
        bases = "".join(np.array(list("ACGT"))[rng.integers(0, 4, size)])
        bases = bases[:200] + "N" * 17 + bases[217:300] + bases[300:400].lower() + bases[400:]
        text.append(f">{name}\n" + "\n".join(bases[at : at + 60] for at in range(0, size, 60)))
    path.write_text("\n".join(text) + "\n")
    return path


def made(source: Fasta | Text, tokenizer: Tokenizer, folder: Path) -> tuple[TokenCache, Samples, np.ndarray]:
    cache = build_cache(source, tokenizer, folder)
    samples = Samples(cache, tokenizer, Cut(max_length=LENGTH, too_long="window"))
    first = np.concatenate([[0], np.cumsum(document_characters(cache))])
    return cache, samples, first


def tokenizers(genome: Path) -> dict[str, Tokenizer]:
    source = Fasta(path=str(genome))
    return {
        "single": build_tokenizer(Kmer(k=1), source.texts),
        "kmer": build_tokenizer(Kmer(k=3), source.texts),
        "bpe": build_tokenizer(Bpe(vocab_size=300), source.texts),
    }


def crops(genome: Path, name: str, folder: Path, options: CropOptions) -> tuple[Crops, np.ndarray, str]:
    source = Fasta(path=str(genome))
    _, samples, first = made(source, tokenizers(genome)[name], folder)
    texts = build_texts(source, first, folder, "texts")
    whole = "".join(texts.part(document, 0, int(size)) for document, size in enumerate(np.diff(first)))
    return Crops(samples, texts, first[:-1], options), first, whole


def check(batch: Batch, whole: str, tokenizer: Tokenizer) -> None:
    """Every token says the bases that lie where it says it lies, on one strand or the other."""
    tokens = tokenizer.tokens(batch.ids_T.tolist())
    rows = zip(tokens, batch.starts_T.tolist(), batch.characters_T.tolist(), batch.lower_T.tolist(), strict=True)
    said = [row for row in rows if row[2]]
    assert len(said) == batch.num_tokens - 2 * len(batch)
    for token, start, length, lower in said:
        there = whole[start : start + length]
        if token == "[UNK]":
            assert length < 3, "the end of a text that no k-mer fits"
            continue
        assert token.replace("Ġ", "").upper() in (there.upper(), reverse_complement(there).upper())
        assert lower == (there != there.upper())


@pytest.mark.parametrize("name", ["single", "kmer", "bpe"])
def test_tokens_lie_where_they_say(name: str, genome: Path, tmp_path: Path) -> None:
    made_crops, _, whole = crops(genome, name, tmp_path, CropOptions(reverse_complement=0.5, seed=1))
    index = np.arange(len(made_crops))
    for epoch in range(3):
        batch = made_crops.gather(index, np.full(len(index), epoch))
        check(batch, whole, made_crops.samples.tokenizer)
        assert (np.array(batch.lengths) <= made_crops.lengths(index)).all()


@pytest.mark.parametrize("name", ["single", "kmer", "bpe"])
def test_unmoved_samples_say_the_same_as_those_of_the_cache(name: str, genome: Path, tmp_path: Path) -> None:
    made_crops, first, whole = crops(genome, name, tmp_path, CropOptions(moves=False))
    located = Located(made_crops.samples, first[:-1])
    index, epochs = np.arange(len(located)), np.zeros(len(located), dtype=np.int64)
    plain = located.gather(index, epochs)
    check(plain, whole, made_crops.samples.tokenizer)
    if name == "bpe":
        return  # tokenised from the middle, a text may have other tokens
    again = made_crops.gather(index, epochs)
    text = plain.characters_T > 0
    for field in ("ids_T", "maskable_T", "characters_T", "lower_T"):
        assert (getattr(again, field) == getattr(plain, field)).all(), field
    assert (again.starts_T[text] == plain.starts_T[text]).all()


def test_boundaries_differ_from_pass_to_pass_and_not_by_chance(genome: Path, tmp_path: Path) -> None:
    made_crops, _, _ = crops(genome, "kmer", tmp_path, CropOptions(seed=5))
    index = np.arange(len(made_crops))
    first, second, again = (made_crops.gather(index, np.full(len(index), epoch)) for epoch in (0, 1, 0))
    assert (first.starts_T == again.starts_T).all()
    assert first.starts_T.tolist() != second.starts_T.tolist()
    alone = made_crops.gather(np.array([3]), np.array([1]))
    edges = list(itertools.pairwise(second.boundaries))[3]
    assert alone.starts_T.tolist() == second.starts_T[edges[0] : edges[1]].tolist()


def test_every_character_is_met_in_time_and_none_that_is_held_out(genome: Path, tmp_path: Path) -> None:
    source = Fasta(path=str(genome))
    _, samples, first = made(source, tokenizers(genome)["single"], tmp_path)
    train, held = samples.split(0.2, 7)
    texts = build_texts(source, first, tmp_path, "texts")
    made_crops = Crops(train, texts, first[:-1], CropOptions(reverse_complement=0.5))
    index = np.arange(len(train))

    def met(batch: Batch) -> set[int]:
        return set(batch.starts_T[batch.characters_T > 0].tolist())

    seen = set().union(*(met(made_crops.gather(index, np.full(len(index), epoch))) for epoch in range(40)))
    kept = met(Located(train, first[:-1]).gather(index, np.zeros_like(index)))
    places = np.arange(len(held))
    out = met(Located(held, first[:-1]).gather(places, np.zeros_like(places)))
    assert seen == kept
    assert not seen & out


def test_strands_may_lie_apart(genome: Path, tmp_path: Path) -> None:
    apart, first, _ = crops(
        genome, "single", tmp_path, CropOptions(moves=False, reverse_complement=1.0, minus_first=5000)
    )
    joint, _, _ = crops(genome, "single", tmp_path, CropOptions(moves=False, reverse_complement=1.0))
    index = np.arange(len(joint))
    away, here = (one.gather(index, np.zeros_like(index)) for one in (apart, joint))
    text = here.characters_T > 0
    assert (away.starts_T[text] == here.starts_T[text] + 5000).all()
    assert (here.starts_T[text].diff()[:5] == -1).all(), "a minus strand runs backward"
    assert first[-1] < 5000


@settings(max_examples=50, deadline=None)
@given(st.text("ACGTNRYacgtn", max_size=60), st.integers(0, 60), st.integers(0, 60))
def test_a_strand_mirrors_sequence_and_coordinates(sequence: str, one: int, two: int) -> None:
    start, end = sorted((min(one, len(sequence)), min(two, len(sequence))))
    other = reverse_complement(sequence)
    assert reverse_complement(other) == sequence
    low, high = mirrored(start, end, len(sequence))
    assert other[low:high] == reverse_complement(sequence[start:end])
    assert mirrored(low, high, len(sequence)) == (start, end)


@pytest.mark.parametrize("letters", ["plain words", "naïve café", "日本語 text ✓"])
def test_texts_come_back_letter_for_letter(letters: str, tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text(f"{letters} one\n\n{letters} two and more\n\n  \n", encoding="utf-8")
    source = Text(path=str(path))
    sizes = [len(f"{letters} one"), len(f"{letters} two and more")]
    first = np.concatenate([[0], np.cumsum(sizes)])
    for _ in range(2):  # made, and opened again
        texts = build_texts(source, first, tmp_path, "texts")
        assert texts.part(1, 0, sizes[1]) == f"{letters} two and more"
        assert texts.part(0, len(letters) + 1, sizes[0]) == "one"


def test_the_layout_is_the_same_for_every_tokenizer(genome: Path, tmp_path: Path) -> None:
    source = Fasta(path=str(genome))
    found = [made(source, one, tmp_path)[2].tolist() for one in tokenizers(genome).values()]
    assert found[0] == found[1] == found[2]
