"""A prompt and what is to be written after it: only the second is learnt."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.config.load import load
from instar.core.errors import ConfigError, DataError
from instar.data.cache import build_cache
from instar.data.fingerprint import source_fingerprint
from instar.data.samples import Cut, Samples
from instar.data.source import JsonLines
from instar.data.tokenizer import Bpe, Character, build_tokenizer
from instar.task import CausalLM, StepContext

PAIRS = [("what is it", "a stone"), ("and then", "the river, and the bridge"), ("", "alone"), ("who sings", "a bird")]
MOMENT = StepContext(seed=0, step=0, progress=0.0)


def pairs_file(folder: Path, pairs: list[tuple[str, str]]) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps({"ask": ask, "say": say}) + "\n" for ask, say in pairs))
    return path


def samples(folder: Path, pairs: list[tuple[str, str]], *, kind: str = "character", cut: Cut | None = None) -> Samples:
    source = JsonLines(path=str(pairs_file(folder, pairs)), text="ask", completion="say", between=" > ")
    config = Character() if kind == "character" else Bpe(vocab_size=300)
    tokenizer = build_tokenizer(config, source.texts)
    cache = build_cache(source, tokenizer, folder / "cache")
    return Samples(cache, tokenizer, cut or Cut(layout="decoder"))


@pytest.mark.parametrize("kind", ["character", "bpe"])
def test_the_targets_are_the_completion_and_the_end_mark(tmp_path: Path, kind: str) -> None:
    found = samples(tmp_path, PAIRS, kind=kind)
    batch = found.gather(np.arange(4), np.zeros(4))
    prepared = CausalLM().build(found.tokenizer).prepare(batch, MOMENT)
    for number, (_, say) in enumerate(PAIRS):
        one = prepared.select([number])
        text = found.tokenizer.decode(one.target_M.tolist())
        assert one.target_M[-1] == found.tokenizer.eos_id
        if kind == "character":
            assert text == say
        else:
            assert text.strip() == say, "a token that reaches into the completion belongs to it"
        assert (one.read_M[1:] == one.read_M[:-1] + 1).all()
        assert int(one.read_M[-1]) == one.num_tokens - 2


def test_evaluation_scores_completions_alone(tmp_path: Path) -> None:
    found = samples(tmp_path, PAIRS)
    batch = next(iter(found.batches(10_000)))
    prepared = CausalLM().build(found.tokenizer).prepare(batch, StepContext.of_evaluation(0))
    assert prepared.num_targets == sum(len(say) + 1 for _, say in PAIRS)


@settings(deadline=None, max_examples=20)
@given(length=st.integers(3, 40))
def test_a_pair_that_is_too_long_loses_the_beginning_of_its_prompt(
    length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    ask, say = "abcdefghij", "klmnopqrstuvw"
    cut = Cut(layout="decoder", max_length=length, too_long="truncate")
    found = samples(folder, [(ask, say), ("a", "k")], cut=cut)
    batch = found.gather(np.arange(2), np.zeros(2))
    whole = ask + " > " + say
    one = batch.select([0])
    assert one.num_tokens == min(length, len(whole) + 1)
    assert found.tokenizer.decode(one.ids_T.tolist()) == whole[max(0, len(whole) + 1 - length) :]
    assert one.ids_T[-1] == found.tokenizer.eos_id
    prepared = CausalLM().build(found.tokenizer).prepare(one, MOMENT)
    assert found.tokenizer.decode(prepared.target_M.tolist()) == say[max(0, len(say) + 2 - length) :]


def test_micro_batches_and_rows_without_completion(tmp_path: Path) -> None:
    found = samples(tmp_path, PAIRS)
    batch = found.gather(np.arange(4), np.zeros(4))
    whole = CausalLM().build(found.tokenizer).prepare(batch, MOMENT)
    assert sum(piece.num_targets for piece in whole.split(12)) == whole.num_targets
    assert batch.select([1]).prompts_D.tolist() == [len("and then > ")]
    path = tmp_path / "bad.jsonl"
    path.write_text('{"ask": "x"}\n{"ask": "x", "say": 3}\n')
    with pytest.raises(DataError, match=r"no field 'say'[\s\S]*'say' is to be text; got 3"):
        list(JsonLines(path=str(path), text="ask", completion="say").documents())
    with pytest.raises(ConfigError, match="set one of label and completion"):
        load("{path: x, label: a, completion: b}", JsonLines)


def test_data_without_completions_keep_their_fingerprint(tmp_path: Path) -> None:
    """A checkpoint of an older instar is of the same data."""
    path = pairs_file(tmp_path, PAIRS)
    plain = JsonLines(path=str(path), text="ask")
    options = plain.model_dump(mode="json", exclude={"path"})
    assert {"completion", "between"} <= set(options)
    other = plain.model_copy(update={"between": "x"})
    assert source_fingerprint(plain, tmp_path) == source_fingerprint(other, tmp_path)
    paired = plain.model_copy(update={"completion": "say"})
    assert source_fingerprint(paired, tmp_path) != source_fingerprint(plain, tmp_path)
