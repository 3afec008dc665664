"""What `check` says of the data before anything is trained, and what it refuses."""

import itertools
from pathlib import Path

import pytest

from instar.core.errors import DataError
from instar.run.check import check, describe

RUN = """
model: {{config: bert, num_layers: 1, hidden_size: 16, num_heads: 2, intermediate_size: 24}}
tokenizer: {tokenizer}
task: {task}
data: {{train: {train}, max_length: 34, too_long: truncate, cache: "{folder}/cache"}}
train: {{budget: "2 steps", batch_samples: 4}}
"""


def run_file(folder: Path, train: str, tokenizer: str, task: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(RUN.format(folder=folder, train=train, tokenizer=tokenizer, task=task))
    return path


def test_classes_with_counts_and_the_share_of_unknown_tokens_are_shown(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("text,label\n" + "ACGTNACGU,a\n" * 5 + "ACGTACGT,b\n" * 3 + "ACGTACGT,?\n")
    train = f'{{kind: csv, path: "{table}", label: label, label_missing: ["?"]}}'
    found = check(run_file(tmp_path, train, "{kind: kmer, k: 1}", "{kind: classify}"))
    assert found["labels"]["train"] == {"a": 5, "b": 3}
    assert found["unknown"] == {"unknown_tokens": 5, "unknown_share": round(5 / 69, 6), "u_read_as_t": 5}
    told = "\n".join(describe(found))
    assert "data.train: 2 classes, with documents of each: a 5, b 3" in told
    assert "69 tokens, 7.25% of them unknown; 5 letters U are read as T" in told
    assert "warning: data.train: 5 of 69 tokens (7.25%) are unknown" in told
    assert "1 documents without a label are left out" in told


def test_a_vocabulary_of_spaced_words_is_refused_for_a_genome(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map("".join, itertools.product("ACGT", repeat=3))]
    vocabulary = tmp_path / "spaced"
    vocabulary.mkdir()
    (vocabulary / "vocab.txt").write_text("\n".join(words) + "\n")
    (vocabulary / "tokenizer_config.json").write_text('{"do_lower_case": false, "tokenizer_class": "BertTokenizer"}')
    fasta = tmp_path / "x.fa"
    fasta.write_text("".join(f">r{number}\nACGTTGCAAC\n" for number in range(8)))
    run = run_file(tmp_path, f'{{kind: fasta, path: "{fasta}"}}', f'{{from: "{vocabulary}"}}', "{kind: mlm}")
    with pytest.raises(
        DataError, match=r"data.train: 8 of 8 tokens .*words of 3 bases.*data.allow_unknown_tokens: true"
    ):
        check(run)
    assert not (tmp_path / "runs").exists()
