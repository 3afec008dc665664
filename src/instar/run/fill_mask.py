"""`fill-mask`: what may stand where a text shows [MASK]."""

from pathlib import Path
from typing import Any

from instar.core.errors import DataError, UsageError
from instar.inference.predict import MASK_WORD
from instar.run.predict import predictor_of
from instar.run.saved import take_up
from instar.run.writing import must_be_text


def fill_mask(checkpoint: Path, text: str, *, top: int = 5) -> dict[str, Any]:
    """The likeliest fills of each [MASK] of a text, with their probabilities, and the text with the likeliest ones.

    UsageError for a checkpoint of another task or a text without [MASK]; DataError for one that is too long.
    """
    if top < 1:
        raise UsageError(f"--top: wanted 1 or more; got {top}")
    must_be_text(text, "the text")
    if MASK_WORD not in text:
        raise UsageError(f"wanted a text with {MASK_WORD} where a token is to be filled in; got {text[:60]!r}")
    saved = take_up(checkpoint)
    if saved.task.head != "masked_lm":
        raise UsageError(f"{saved.folder}: its task is {saved.config.task.kind}; wanted a masked language model (mlm)")
    given = text.upper() if saved.config.data.train.folds_case else text
    row = next(predictor_of(saved, best=top).rows([given]))
    if row.get("truncated"):
        raise DataError(f"the text is longer than this model takes ({saved.network.max_length} tokens); shorten it")
    return {"text": text, "filled": row["filled"], "fills": row["fills"]}
