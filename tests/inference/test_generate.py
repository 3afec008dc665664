"""What a prompt becomes does not depend on its neighbours, its batch, or on whether anybody watches."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.core.errors import DataError, UsageError
from instar.data.tokenizer import Bpe, Tokenizer, build_tokenizer
from instar.inference.choosing import Drawn, Recorded, Repetition, processors
from instar.inference.decoding import Decoding
from instar.inference.ending import Endings, TextStream
from instar.inference.generate import Generator
from instar.model import FromConfig, Network, build_network
from tests.model.helpers import SIZE, stock

TEXTS = ["the river runs under the bridge", "snow läuft über die Brücke, 🙂🙂 und déjà vu", "a small stone sings"] * 20
PROMPTS = ["the", "the river runs under the", "a small stone", "snow", "🙂", "the bridge sings under a river of snow"]
FAMILIES = ["gpt2", "llama", "qwen2", "mistral", "bert", "roberta"]


@cache
def tokenizer() -> Tokenizer:
    return build_tokenizer(Bpe(vocab_size=300), lambda: iter(TEXTS))


@cache
def network(family: str) -> Network:
    sharp = {"max_length": 64, "initializer_range": 0.3}
    config = FromConfig(config=family, **(SIZE | sharp))
    return build_network(config, head="causal_lm", tokenizer=tokenizer(), seed=5)


def generator(family: str = "gpt2", **options: Any) -> Generator:
    told = options.pop("log", lambda _: None)
    decoding = Decoding(**({"max_new_tokens": 12} | options))
    return Generator(
        network=network(family), tokenizer=tokenizer(), device=torch.device("cpu"), decoding=decoding, log=told
    )


def ids_of(rows: Iterable[dict[str, Any]]) -> list[list[int]]:
    return [row["ids"] for row in rows]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
def test_batched_greedy_tokens_are_those_of_one_row_at_a_time(family: str, batch_tokens: int) -> None:
    """The reference is plain argmax over the whole text, one row and one token at a time, without any cache."""
    model = stock(network(family)).eval()
    wanted = []
    for prompt in PROMPTS:
        ids = tokenizer().encode_batch([prompt])[0].ids.tolist()
        new: list[int] = []
        for _ in range(12):
            with torch.no_grad():
                best = int(model(torch.tensor([[*ids, *new]])).logits[0, -1].argmax())
            if best == tokenizer().eos_id:
                break
            new.append(best)
        wanted.append(new)
    rows = list(generator(family, batch_tokens=batch_tokens).rows(PROMPTS))
    assert ids_of(rows) == wanted
    assert [row["row"] for row in rows] == list(range(len(PROMPTS)))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_padding_may_be_the_end_of_text(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPT has no padding token of its own, and uses its end mark; some rows end early, at a token chosen for it."""
    free = list(generator(family, stop_ids=()).rows(PROMPTS))
    ending = free[1]["ids"][3]
    alone = [next(generator(family, stop_ids=(ending,)).rows([prompt])) for prompt in PROMPTS]
    monkeypatch.setattr(tokenizer(), "pad_id", ending)
    monkeypatch.setattr(tokenizer(), "eos_id", ending)
    together = list(generator(family, repetition_penalty=1.0).rows(PROMPTS))
    assert ids_of(together) == ids_of(alone)
    assert [row["finish"] for row in together] == [row["finish"] for row in alone]
    assert together[1]["finish"] == "end_of_text"
    assert len(together[1]["ids"]) <= 3
    penalised = list(generator(family, repetition_penalty=1.7).rows(PROMPTS))
    assert ids_of(penalised) == [ids_of(generator(family, repetition_penalty=1.7).rows([one]))[0] for one in PROMPTS]


@pytest.mark.parametrize(
    "options", [{"temperature": 1.3}, {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.01}]
)
def test_a_draw_depends_on_the_seed_and_the_row_only(options: dict[str, Any]) -> None:
    drawn = list(generator(seed=3, **options).rows(PROMPTS))
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = list(generator(seed=3, batch_tokens=50, **options).rows(PROMPTS))
    assert torch.equal(torch.get_rng_state(), before)
    assert ids_of(again) == ids_of(drawn)
    last = list(generator(seed=3, **options).rows(PROMPTS[-1:], first=len(PROMPTS) - 1))
    assert last[0]["ids"] == drawn[-1]["ids"]
    assert ids_of(generator(seed=4, **options).rows(PROMPTS)) != ids_of(drawn)
    twice = ids_of(generator(seed=3, **options).rows(["the", "the"]))
    assert twice[0] != twice[1]


def test_a_draw_follows_the_probabilities() -> None:
    scores_BV = torch.log(torch.tensor([[0.5, 0.25, 0.0, 0.25]])).expand(4000, 4)
    chosen = Drawn(list(range(4000)), 3)(torch.zeros(4000, 3, dtype=torch.int64), scores_BV).argmax(1)
    shares = torch.bincount(chosen, minlength=4) / 4000
    assert shares.tolist() == pytest.approx([0.5, 0.25, 0.0, 0.25], abs=0.03)


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=9), st.integers(0, 2**40))
@settings(deadline=None)
def test_a_draw_never_falls_on_an_impossible_token(scores: list[float], seed: int) -> None:
    scores_BV = torch.tensor([scores])
    scores_BV[0, 0] = float("-inf")
    chosen = Drawn([seed], 1)(torch.zeros(1, 1, dtype=torch.int64), scores_BV)
    assert int(chosen.argmax()) != 0
    assert torch.isfinite(chosen).sum() == 1


def test_repetition_counts_the_text_and_not_the_padding() -> None:
    ids_BT = torch.tensor([[3, 3, 1], [2, 1, 1]])
    scores_BV = torch.tensor([[4.0, -2.0, 4.0, 4.0], [4.0, 4.0, -2.0, 4.0]])
    found = Repetition(2.0, [2, 0])(ids_BT, scores_BV)
    assert found.tolist() == [[4.0, -4.0, 4.0, 4.0], [4.0, 2.0, -4.0, 4.0]]


@pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "seed": 1}, {"num_beams": 3}])
def test_log_probabilities_are_those_of_the_network_itself(options: dict[str, Any]) -> None:
    rows = list(generator(log_probabilities=True, **options).rows(PROMPTS))
    model = stock(network("gpt2")).eval()
    for prompt, row in zip(PROMPTS, rows, strict=True):
        ids = tokenizer().encode_batch([prompt])[0].ids.tolist()
        with torch.no_grad():
            logits_TV = model(torch.tensor([[*ids, *row["ids"]]])).logits[0].log_softmax(-1)
        places = range(len(ids) - 1, len(ids) - 1 + len(row["ids"]))
        wanted = [float(logits_TV[place, number]) for place, number in zip(places, row["ids"], strict=True)]
        assert row["log_probabilities"] == pytest.approx(wanted, abs=2e-4)


def test_log_probabilities_hold_the_scores_of_one_step_only() -> None:
    recorded = Recorded()
    for step in range(5):
        recorded(torch.zeros(2, step + 1, dtype=torch.int64), torch.zeros(2, 50))
    held = [value for value in vars(recorded).values() if isinstance(value, torch.Tensor)]
    assert sum(value.numel() for value in held) == 100
    assert all(value.shape == (2,) for value in recorded.chosen)


def test_beams_are_those_of_transformers() -> None:
    model = stock(network("gpt2")).eval()
    rows = list(generator(num_beams=4, stop_ids=()).rows(PROMPTS))
    for prompt, row in zip(PROMPTS, rows, strict=True):
        ids = torch.tensor([tokenizer().encode_batch([prompt])[0].ids.tolist()])
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            num_beams=4,
            max_new_tokens=12,
            do_sample=False,
            use_cache=True,
            pad_token_id=0,
            eos_token_id=None,
        )
        assert row["ids"] == found[0, ids.shape[1] :].tolist()


def test_beams_bear_a_penalty_in_any_batch() -> None:
    options = {"num_beams": 3, "repetition_penalty": 1.7, "stop_ids": ()}
    alone = [ids_of(generator(**options).rows([prompt]))[0] for prompt in PROMPTS]
    assert ids_of(generator(**options).rows(PROMPTS)) == alone
    assert alone != ids_of(generator(num_beams=3, stop_ids=()).rows(PROMPTS))


def test_cuts_leave_what_their_names_say() -> None:
    """The likeliest k; the fewest likeliest whose sum reaches p; those with a share of the likeliest's chance."""
    chances_V = torch.tensor([0.40, 0.25, 0.15, 0.10, 0.06, 0.04])

    def left(**options: Any) -> set[int]:
        decoding = Decoding(temperature=1.0, **options)
        scores_BV = chances_V.log().expand(3000, 6)
        for step in processors(decoding, list(range(3000)), [0] * 3000, 1):
            scores_BV = step(torch.zeros(3000, 1, dtype=torch.int64), scores_BV)
        return set(scores_BV.argmax(1).tolist())

    assert left() == {0, 1, 2, 3, 4, 5}
    assert left(top_k=2) == {0, 1}
    assert left(top_p=0.7) == {0, 1, 2}
    assert left(min_p=0.3) == {0, 1, 2}
    assert left(top_k=4, top_p=0.5) == {0, 1}


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_draw_from_one_token_is_greedy(family: str) -> None:
    assert ids_of(generator(family, temperature=2.0, top_k=1).rows(PROMPTS)) == ids_of(generator(family).rows(PROMPTS))


# ---- where a text ends ----


def test_a_stop_text_ends_a_row_and_is_no_part_of_it() -> None:
    free = next(generator(stop_ids=()).rows(["the river"]))
    middle = free["text"][len(free["text"]) // 2 :][:3]
    row = next(generator(stop_ids=(), stop=(middle, "never to be seen")).rows(["the river"]))
    assert row["finish"] == "stop"
    assert row["text"] == free["text"][: free["text"].index(middle)]
    assert row["tokens"] == len(row["ids"]) < free["tokens"]
    assert free["finish"] == "length"
    assert row["ids"] == free["ids"][: row["tokens"]]
    neighbours = list(generator(stop_ids=(), stop=(middle,)).rows([*PROMPTS, "the river"]))
    assert neighbours[-1]["text"] == row["text"]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("stop", [(), ("e",), ("ü", "ll")])
def test_streamed_pieces_are_whole_characters_and_make_the_text(prompt: str, stop: tuple[str, ...]) -> None:
    pieces: list[str] = []
    options = {"max_new_tokens": 40, "temperature": 1.5, "stop": stop, "seed": 2}
    row = generator(**options).stream(prompt, pieces.append)
    assert "".join(pieces) == row["text"]
    assert row["text"] == next(generator(**options).rows([prompt]))["text"]


@given(st.text(alphabet="aé🙂 ü", min_size=1, max_size=12))
@settings(deadline=None, max_examples=50)
def test_a_stream_never_splits_a_character(text: str) -> None:
    ids = tokenizer().encode_batch([text])[0].ids.tolist()
    endings = Endings(tokenizer=tokenizer(), ids=frozenset(), stop=("üü",))
    stream = TextStream(endings, [])
    pieces = [stream.put(number) for number in ids]
    pieces.append(stream.end(endings.cut([], ids)[1]))
    assert "".join(pieces) == text.split("üü", maxsplit=1)[0]
    assert "\ufffd" not in "".join(pieces)


# ---- what cannot be done ----


def test_a_prompt_longer_than_the_context_loses_its_beginning_and_that_is_said_once() -> None:
    told: list[str] = []
    long = "the river runs under the bridge " * 30
    rows = list(generator(log=told.append).rows([long, "the", long[5:]]))
    kept = tokenizer().encode_batch([long])[0].ids.tolist()[-52:]
    assert rows[0]["truncated"]
    assert "truncated" not in rows[1]
    assert rows[0]["ids"] == generator().continued([kept])[0]["ids"]
    assert len(told) == 1
    assert "2 of 3 have more than 52 tokens" in told[0]
    with pytest.raises(DataError, match=r"row 0: the prompt has .* tokens, and the model takes 52 besides 12 new ones"):
        list(generator(too_long="error").rows([long]))


def test_more_new_tokens_than_the_context_are_refused() -> None:
    with pytest.raises(UsageError, match="max_new_tokens: wanted less than 64"):
        generator(max_new_tokens=64)


def test_a_token_that_does_not_exist_ends_nothing() -> None:
    with pytest.raises(UsageError, match=r"stop_ids: wanted numbers of tokens, 0 to 2\d\d; got \[9999\]"):
        generator(stop_ids=(5, 9999))


def test_transformers_keeps_its_warnings_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a token that was written, and is the padding token too, for a mask that was forgotten."""
    from transformers.utils import logging

    levels: list[int] = []
    monkeypatch.setattr(
        type(network("gpt2").model.base_model),
        "warn_if_padding_and_no_attention_mask",
        lambda *_: levels.append(logging.get_verbosity()),
    )
    before = logging.get_verbosity()
    list(generator().rows(["the"]))
    assert set(levels) == {logging.ERROR}
    assert logging.get_verbosity() == before


def test_an_empty_prompt_has_no_text() -> None:
    rows = list(generator().rows(["", "the"]))
    assert rows[0] == {"row": 0, "skipped": "the prompt has no token"}
    assert rows[1]["ids"] == ids_of(generator().rows(["the"]))[0]
    with pytest.raises(DataError, match="the prompt is empty"):
        generator().stream("", print)


def test_a_network_that_writes_no_text_is_refused() -> None:
    encoder = build_network(FromConfig(config="bert", **SIZE), head="masked_lm", tokenizer=tokenizer(), seed=5)
    with pytest.raises(UsageError, match="wanted a causal language model"):
        Generator(network=encoder, tokenizer=tokenizer(), device=torch.device("cpu"))


def test_the_network_is_left_as_it_was() -> None:
    built = network("gpt2").train()
    attention, settings_before = built.model.config._attn_implementation, built.model.generation_config
    list(generator().rows(["the"]))
    assert built.training
    assert built.model.config._attn_implementation == attention
    assert built.model.generation_config is settings_before
    assert np.isfinite(float(built(_batch()).logits_MV().detach().sum()))
    built.eval()


def _batch() -> Any:
    from tests.model.helpers import batch

    return batch((3, 4))
