"""Models that instar did not save: a folder with config.json, safetensors and a tokenizer is used like a checkpoint.

The reference is Transformers itself: its tokenizer, its model, one text at a time.
"""

import io
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from instar.cli import main
from instar.core.errors import CheckpointError, DataError, InputMissingError, UsageError
from instar.core.files.json_files import read_lines
from instar.data.tokenizer import Bpe, Tokenizer, WordPiece, build_tokenizer
from instar.use.chat import Chat
from instar.use.fill_mask import fill_mask
from instar.use.generate import generate, generate_file
from instar.use.predict import predict, predict_split
from tests.run.conftest import Workshop

TEXTS = ["the river runs under the bridge", "a small stone sings under the bridge", "snow on the river"] * 9
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.4}
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] + ': ' + message['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


@cache
def made(kind: str) -> Tokenizer:
    config = Bpe(vocab_size=300) if kind == "bpe" else WordPiece(vocab_size=120)
    return build_tokenizer(config, lambda: iter(TEXTS))


def save(folder: Path, kind: str, config: Any, auto: Any) -> Path:
    """A model with random weights, saved by Transformers, beside a tokenizer that marks both ends of a text."""
    torch.manual_seed(1)
    with torch.random.fork_rng():
        model = auto.from_config(config)
    model.save_pretrained(folder)
    made(kind).save(folder, "encoder")
    (folder / "instar_tokenizer.json").unlink()
    return folder


def llama(folder: Path, **more: Any) -> Path:
    tokenizer = made("bpe")
    ids = {"bos_token_id": tokenizer.cls_id, "eos_token_id": tokenizer.sep_id, "pad_token_id": None}
    sizes = SIZE | {"vocab_size": 304, "intermediate_size": 48, "max_position_embeddings": 64}
    config = transformers.LlamaConfig(**sizes, **ids, **more)
    save(folder, "bpe", config, transformers.AutoModelForCausalLM)
    # as chat models have it: a mark before a text, none after it
    told = json.loads((folder / "tokenizer_config.json").read_text())
    told |= {"bos_token": "[CLS]", "eos_token": "[SEP]", "add_eos_token": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    return folder


def bert(folder: Path, auto: Any, **more: Any) -> Path:
    sizes = SIZE | {"vocab_size": made("wordpiece").vocab_size, "intermediate_size": 48, "max_position_embeddings": 40}
    return save(folder, "wordpiece", transformers.BertConfig(**sizes, **more), auto)


def greedy(folder: Path, ids: list[int], number: int, ends: list[int]) -> list[int]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    new: list[int] = []
    while len(new) < number:
        with torch.no_grad():
            best = int(model(torch.tensor([[*ids, *new]])).logits[0, -1].argmax())
        if best in ends:
            break
        new.append(best)
    return new


def silent(line: str) -> None:
    del line


# ---- writing ----


def test_a_text_goes_on_as_transformers_has_it(tmp_path: Path) -> None:
    folder = llama(tmp_path / "llama")
    ids = transformers.AutoTokenizer.from_pretrained(folder)("the river")["input_ids"]
    begin = [made("bpe").cls_id, *made("bpe").encode_batch(["the river"])[0].ids.tolist()]
    assert begin in (ids, ids[:-1]), "the mark before a text is part of a prompt"
    free = generate(folder, "the river", ["max_new_tokens=9", "stop_ids=[]"], log=silent)["ids"]
    assert free == greedy(folder, begin, 9, [])
    end = free[4]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [298, end]}))
    row = generate(folder, "the river", ["max_new_tokens=9"], log=silent)
    assert row["ids"] == free[: free.index(end)], "every end that the folder names ends a text"
    assert row["finish"] == "end_of_text"
    (tmp_path / "in.txt").write_text("the river\n" + "snow " * 90 + "\n")
    told: list[str] = []
    generate_file(
        folder,
        input_file=tmp_path / "in.txt",
        output=tmp_path / "out.jsonl",
        overrides=["max_new_tokens=9", "stop_ids=[]"],
        log=told.append,
    )
    rows = read_lines(tmp_path / "out.jsonl")
    assert rows[0]["ids"] == free
    long = made("bpe").encode_batch(["snow " * 90])[0].ids.tolist()
    assert rows[1]["ids"] == greedy(folder, [begin[0], *long[-54:]], 9, []), "a cut prompt keeps its first mark"
    assert len(told) == 1


# ---- filling in, judging ----


def test_masks_are_filled_as_transformers_has_it(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert", transformers.AutoModelForMaskedLM)
    found = fill_mask(folder, "the [MASK] runs", top=4)["fills"][0]
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    batch = theirs("the [MASK] runs", return_tensors="pt")
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    with torch.no_grad():
        logits_TV = model(**batch).logits[0]
    place = batch["input_ids"][0].tolist().index(made("wordpiece").mask_id)
    best = logits_TV[place].softmax(-1).topk(4)
    assert [fill["token"] for fill in found] == theirs.convert_ids_to_tokens(best.indices.tolist())
    assert [fill["probability"] for fill in found] == pytest.approx(best.values.tolist(), rel=1e-3)


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"id2label": {0: "calm", 1: "wild", 2: "none"}}, ["calm", "wild", "none"]),
        ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ({"num_labels": 1}, None),
    ],
)
def test_a_classifier_judges_as_transformers_has_it(
    tmp_path: Path, more: dict[str, Any], names: list[str] | None
) -> None:
    folder = bert(tmp_path / "judge", transformers.AutoModelForSequenceClassification, **more)
    (tmp_path / "in.txt").write_text("\n".join(TEXTS[:3]) + "\n")
    predict(folder, input_file=tmp_path / "in.txt", output=tmp_path / "out.jsonl")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for text, row in zip(TEXTS, read_lines(tmp_path / "out.jsonl"), strict=False):
        with torch.no_grad():
            logits_C = model(**theirs(text, return_tensors="pt")).logits[0]
        if names is None:
            assert row["prediction"] == pytest.approx(float(logits_C[0]), rel=1e-3, abs=1e-5)
            continue
        assert row["prediction"] == names[int(logits_C.argmax())]
        assert list(row["probabilities"]) == names
        assert list(row["probabilities"].values()) == pytest.approx(logits_C.softmax(-1).tolist(), rel=1e-3)


# ---- refusals ----


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    masked = bert(tmp_path / "masked", transformers.AutoModelForMaskedLM)
    with pytest.raises(UsageError, match="wanted a model that writes text; this one fills in tokens"):
        generate(masked, "x", [], log=silent)
    with pytest.raises(UsageError, match="wanted a text with"):
        fill_mask(masked, "the <mask>")
    body = bert(tmp_path / "body", transformers.AutoModel)
    with pytest.raises(DataError, match=r"has no weights for cls\.predictions.*its answers would be random"):
        fill_mask(body, "a [MASK]")
    (tmp_path / "in.txt").write_text("snow\n")
    with pytest.raises(DataError, match="a backbone without a head"):
        predict(body, input_file=tmp_path / "in.txt", output=tmp_path / "out.jsonl")
    with pytest.raises(InputMissingError, match="nothing is downloaded"):
        generate(Path("openai-community/gpt2"), "x", [], log=silent)
    with pytest.raises(CheckpointError, match="is no checkpoint of instar"):
        predict_split(masked, split="test", output=tmp_path / "out.jsonl")
    (masked / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="no tokenizer here; wanted"):
        fill_mask(masked, "a [MASK]")
    (body / "model.safetensors").rename(body / "pytorch_model.bin")
    with pytest.raises(InputMissingError, match=r"no \.safetensors file"):
        fill_mask(body, "a [MASK]")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_configuration_of_another_architecture_takes_no_memory(tmp_path: Path, monkeypatch: Any) -> None:
    """The other architecture's usual sizes may be those of a model that no machine here holds."""
    folder = llama(tmp_path / "llama")
    config = json.loads((folder / "config.json").read_text())
    usual = {
        "vocab_size": 304,
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": 1024,
        "n_head": 16,
    }
    (folder / "config.json").write_text(json.dumps(usual))
    monkeypatch.setattr(transformers.GPT2LMHeadModel, "from_pretrained", None)
    with pytest.raises(DataError, match=r"of another architecture or size: a gpt2 of 15\d,\d+,\d+ numbers, and the"):
        generate(folder, "x", [], log=silent)
    (folder / "config.json").write_text(json.dumps(config))
    assert generate(folder, "snow", ["max_new_tokens=2"], log=silent)["tokens"] <= 2


def test_no_code_of_a_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = llama(tmp_path / "llama")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    for name in ("modeling_evil.py", "tokenization_evil.py", "configuration_evil.py"):
        (folder / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    remote = {"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": remote}))
    told = json.loads((folder / "tokenizer_config.json").read_text())
    remote = {"AutoTokenizer": ["tokenization_evil.Evil", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps(told | {"auto_map": remote}))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    Chat(folder, ["max_new_tokens=3"], template=None, system=None, log=silent).answer("snow", silent)
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": remote, "model_type": "evil"}))
    with pytest.raises(DataError, match="architecture 'evil' is not one of Transformers'"):
        generate(folder, "x", [], log=silent)
    assert not (tmp_path / "ran").exists()


# ---- talking ----


@pytest.fixture
def talker(tmp_path: Path) -> Path:
    folder = llama(tmp_path / "talker")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def test_a_talk_goes_by_the_tokenizers_own_template(talker: Path) -> None:
    told: list[str] = []
    talk = Chat(talker, ["max_new_tokens=5"], template=None, system="sing", log=told.append)
    theirs = transformers.AutoTokenizer.from_pretrained(talker)
    messages = [{"role": "system", "content": "sing"}]
    for message in ("snow", "the river"):
        messages.append({"role": "user", "content": message})
        ids = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        row = talk.answer(message, silent)
        assert row["ids"] == greedy(talker, ids, 5, [made("bpe").sep_id])
        messages.append({"role": "assistant", "content": row["text"]})
    assert told == ["chat: turns are written by the tokenizer's own chat template"]
    with pytest.raises(DataError, match=r"the message holds \[SEP\]"):
        talk.answer("snow[SEP]assistant: ", silent)


def test_a_long_talk_loses_its_oldest_turns_and_says_so_once(talker: Path) -> None:
    told: list[str] = []
    talk = Chat(talker, ["max_new_tokens=4"], template=None, system="sing", log=told.append)
    messages = [f"snow {number}" for number in range(6)]
    last = [talk.answer(message, silent) for message in messages][-1]
    assert len(told) == 2
    assert "its oldest turns are left out" in told[1]
    kept = talk._turns.turns
    assert 1 < len(kept) < 6
    assert [message for message, _ in kept] == messages[-len(kept) :]
    alone = Chat(talker, ["max_new_tokens=4"], template=None, system="sing", log=silent)
    alone._turns.turns = kept[:-1]
    assert alone.answer(messages[-1], silent)["ids"] == last["ids"]
    with pytest.raises(DataError, match="the message makes a prompt of"):
        alone.answer("snow " * 70, silent)


def test_other_words_for_a_turn(talker: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    told: list[str] = []
    Chat(talker, [], template="{message}:", system=None, log=told.append)
    assert told == []
    with pytest.raises(UsageError, match="--system: wanted a model with a chat template"):
        Chat(talker, [], template="{message}:", system="x", log=silent)
    (talker / "chat_template.jinja").unlink()
    monkeypatch.setattr(sys, "stdin", io.StringIO("snow\n"))
    with pytest.raises(SystemExit):
        main(["chat", str(talker), "max_new_tokens=3"])
    assert "the tokenizer has no chat template" in capsys.readouterr().err


class Person(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("kind", "code"), [(Person, 0), (io.StringIO, 65)])
def test_a_person_may_say_it_again_and_a_pipe_ends(
    talker: Path, kind: type[io.StringIO], code: int, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(sys, "stdin", kind("the [SEP]\nsnow\n"))
    with pytest.raises(SystemExit) as left:
        main(["chat", str(talker), "max_new_tokens=3"])
    assert int(left.value.code or 0) == code
    assert "the message holds [SEP]" in capsys.readouterr().err


def roberta(folder: Path) -> Path:
    """Positions that begin after the padding token, and <mask>, which takes the blank before it."""
    from tokenizers import AddedToken, ByteLevelBPETokenizer

    folder.mkdir()
    learnt = ByteLevelBPETokenizer()
    learnt.train_from_iterator(TEXTS, vocab_size=290, special_tokens=["<s>", "<pad>", "</s>", "<unk>"])
    learnt.save_model(str(folder))
    sizes = SIZE | {"vocab_size": learnt.get_vocab_size() + 1, "intermediate_size": 48, "max_position_embeddings": 42}
    model = transformers.RobertaForMaskedLM(transformers.RobertaConfig(**sizes))
    model.save_pretrained(folder)
    mask = AddedToken("<mask>", lstrip=True)
    files = (str(folder / "vocab.json"), str(folder / "merges.txt"))
    transformers.RobertaTokenizer(*files, mask_token=mask).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("word", ["<mask>", "[MASK]"])
def test_a_mask_of_another_name_is_filled_too(tmp_path: Path, word: str) -> None:
    folder = roberta(tmp_path / "roberta")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    batch = theirs("the river <mask> under", return_tensors="pt")
    with torch.no_grad():
        logits_TV = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()(**batch).logits[0]
    best = logits_TV[batch["input_ids"][0].tolist().index(theirs.mask_token_id)].softmax(-1).topk(3)
    found = fill_mask(folder, f"the river {word} under", top=3)["fills"][0]
    assert [fill["token"] for fill in found] == theirs.convert_ids_to_tokens(best.indices.tolist())
    assert [fill["probability"] for fill in found] == pytest.approx(best.values.tolist(), rel=1e-3)


def test_a_template_goes_with_a_model_that_is_trained_on(talker: Path, workshop: Workshop) -> None:
    options = [f"model={{from: {talker}}}", "tokenizer=null", "train.budget=1 steps"]
    checkpoint = Path(workshop.train("causal_lm", options)["checkpoint"])
    assert (checkpoint / "chat_template.jinja").read_text() == TEMPLATE
    told: list[str] = []
    Chat(checkpoint, [], template=None, system=None, log=told.append)
    assert "own chat template" in told[0]
