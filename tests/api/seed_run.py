"""Runs the snippets of `seed_blocks.md` in the current folder, in one namespace; its last line is a report."""

import json
import logging
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^## (\w+)\n\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """Name and code of each snippet."""
    return _BLOCK.findall((Path(__file__).parent / "seed_blocks.md").read_text(encoding="utf-8"))


def make_distilbert(folder: Path) -> None:
    """A small DistilBERT with a tokenizer, in a folder of the name that the snippets ask for."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import DistilBertConfig, DistilBertForMaskedLM, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    named = dict(zip(("pad", "unk", "cls", "sep", "mask"), words, strict=False))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": word for name, word in named.items()},
    ).save_pretrained(folder)
    shape = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 16}
    DistilBertForMaskedLM(DistilBertConfig(vocab_size=len(words), **shape)).save_pretrained(folder)


class Lines(logging.Handler):
    """Keeps what instar said."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main() -> None:
    make_distilbert(Path("distilbert-base-uncased"))
    space: dict[str, Any] = {"__name__": "course"}
    failed, said = {}, Lines()
    logging.getLogger("instar").addHandler(said)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for name, code in blocks():
            try:
                exec(compile(code, name, "exec"), space)
            except Exception as error:  # noqa: BLE001
                failed[name] = "".join(traceback.format_exception(error))[-3000:]
    old = [str(warning.message) for warning in told if issubclass(warning.category, FutureWarning)]
    found = {
        "failed": failed,
        "old": [line for line in old if "Trainer" in line or "spelling" in line or "is now" in line],
        "said": said.lines,
        "validation": space.get("validation_metrics"),
        "batch_size": space["param_trainer"].get_total_train_batch_size(),
        "objective": space["best_run"].objective,
        "resumed": space["resume_trainer"].state.global_step,
    }
    sys.stdout.write("\n" + json.dumps(found, default=str) + "\n")


if __name__ == "__main__":
    main()
