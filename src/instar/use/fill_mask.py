"""`fill-mask`: what may stand where a text shows [MASK]."""

from pathlib import Path
from typing import Any

from instar.core.errors import DataError, UsageError
from instar.task import MaskedLM
from instar.task.answer.masked import MASK_WORD
from instar.use.external import take_up_any
from instar.use.predict import predictor_of
from instar.use.writing import must_be_text


def fill_mask(checkpoint: Path, text: str, *, top: int = 5) -> dict[str, Any]:
    """The likeliest fills of each [MASK] of a text, with their probabilities, and the text with the likeliest ones.

    UsageError for a checkpoint of another task or a text without [MASK]; DataError for one that is too long.
    """
    if top < 1:
        raise UsageError(f"--top: wanted 1 or more; got {top}")
    must_be_text(text, "the text")
    _must_have(text, text)
    ready = take_up_any(checkpoint, MaskedLM)
    given = text if ready.source is None else ready.source.normalized(text)
    theirs = ready.tokenizer.specials.mask
    given = given if theirs is None else given.replace(theirs, MASK_WORD)
    _must_have(given, text, (MASK_WORD,))
    row = next(predictor_of(ready, best=top).rows([given]))
    if row.get("truncated"):
        raise DataError(f"the text is longer than this model takes ({ready.max_length} tokens); shorten it")
    return {"text": text, "filled": row["filled"], "fills": row["fills"]}


def _must_have(given: str, text: str, words: tuple[str, ...] = (MASK_WORD, "<mask>")) -> None:
    if not any(word in given for word in words):
        raise UsageError(f"wanted a text with {MASK_WORD} where a token is to be filled in; got {text[:60]!r}")
