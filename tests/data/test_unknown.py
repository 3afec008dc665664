"""Tokens that the vocabulary does not know: counted in every cache, warned of, and refused where they are most."""

import itertools
from pathlib import Path

import pytest

from instar.core.errors import DataError
from instar.data import Tokenizer, build_cache
from instar.data.source import Csv, Fasta, SourceBase, Text
from instar.data.tokenizer import Character, Kmer, build_tokenizer
from instar.data.unknown import TokenCount, check_unknown, spaced_word_length

KMERS = build_tokenizer(Kmer(k=3), lambda: iter(()))


@pytest.fixture
def spaced(tmp_path: Path) -> Tokenizer:
    """A vocabulary of words of three bases, in another order than our own."""
    folder = tmp_path / "spaced"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map("".join, itertools.product("ATCG", repeat=3))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    return Tokenizer.load(folder)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("kind", ["genome", "table"])
def test_u_is_t_in_nucleotides(tmp_path: Path, kind: str) -> None:
    def source(name: str, bases: str) -> SourceBase:
        path = tmp_path / f"{name}.fa"
        if kind == "genome":
            return Fasta(path=write(path, f">r\n{bases}\n"))
        return Csv(path=write(path.with_suffix(".csv"), f"text\n{bases}\n"))

    rna = build_cache(source("rna", "ACGUuGCAU"), KMERS, tmp_path / "caches")
    dna = build_cache(source("dna", "ACGTtGCAT"), KMERS, tmp_path / "caches")
    assert rna.ids.tolist() == dna.ids.tolist()
    assert (rna.report["unknown_tokens"], rna.report["u_read_as_t"], dna.report["u_read_as_t"]) == (0, 3, 0)
    assert "3 letters U are read as T" in rna.token_count.described()


def test_the_letter_u_of_a_text_is_not_touched(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(Kmer(k=1), lambda: iter(()))
    text = Text(path=write(tmp_path / "a.txt", "U\n"))
    assert list(text.texts()) == ["U"]
    assert tokenizer.encode_batch(["UT"])[0].ids.tolist() == [tokenizer.codec.number("T")] * 2


def test_the_library_form_of_kmers_reads_u_too() -> None:
    backend = KMERS.codec.backend()
    assert backend.encode("ACGUuu").ids == KMERS.encode_batch(["ACGTTT"])[0].ids.tolist()


def test_a_vocabulary_of_rna_is_not_given_t() -> None:
    rna = build_tokenizer(Character(), lambda: iter(["ACGU"]))
    with pytest.raises(DataError, match="made for RNA"):
        check_unknown("data.train", TokenCount(100, 0, 1), rna, is_allowed=True, option="x")
    assert check_unknown("data.train", TokenCount(100, 0, 0), rna, is_allowed=True, option="x") is None


@pytest.mark.parametrize(
    ("unknown", "told"), [(0, None), (9, None), (10, "warning"), (499, "warning"), (500, "error"), (1000, "error")]
)
def test_a_warning_from_one_percent_an_error_from_half(unknown: int, told: str | None) -> None:
    count = TokenCount(1000, unknown)
    if told == "error":
        with pytest.raises(DataError, match=rf"data\.train: {unknown:,} of 1,000 tokens .* set data\.x: true"):
            check_unknown("data.train", count, KMERS, is_allowed=False, option="data.x: true")
    warning = check_unknown("data.train", count, KMERS, is_allowed=True, option="data.x: true")
    assert (warning is None) == (told is None)


def test_a_vocabulary_of_spaced_words_is_known_by_its_words(spaced: Tokenizer) -> None:
    assert spaced_word_length(spaced) == 3
    assert spaced_word_length(KMERS) is None
    together, apart = spaced.encode_batch(["ACGTACGT", "ACG CGT GTA"])
    count = TokenCount()
    assert (count.add(together.ids, spaced.unk_id), count.add(apart.ids, spaced.unk_id)) == (1, 0)
    with pytest.raises(DataError, match=r"words of 3 bases with blanks between them.*kind: kmer, k: 3, stride: 1"):
        check_unknown("data.train", TokenCount(2, 1), spaced, is_allowed=False, option="x")
