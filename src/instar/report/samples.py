"""Sample predictions as what a page shows: strings and shares, of whatever the file held."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from instar.report.reading import RunRecord, to_float

MAX_SAMPLES = 12
"""Samples of a kind that a report shows: those of the newest step."""
MAX_TOKENS = 600
MAX_TEXT = 2_000

Outcome = Literal["given", "right", "wrong"]


@dataclass(frozen=True)
class ShownToken:
    """A token of a filled-in text: given to the model, or masked and then guessed."""

    text: str
    outcome: Outcome
    guess: str = ""
    share: float = 0.0
    """Probability of the guess, 0 to 1."""
    gap: bool = False
    """A space stands before it."""


@dataclass(frozen=True)
class FilledText:
    """One text with masked tokens, and how many were right."""

    tokens: tuple[ShownToken, ...]
    is_cut: bool

    @property
    def num_masked(self) -> int:
        """Tokens that the model had to guess."""
        return sum(token.outcome != "given" for token in self.tokens)

    @property
    def num_right(self) -> int:
        """Guesses that were right."""
        return sum(token.outcome == "right" for token in self.tokens)


@dataclass(frozen=True)
class ClassifiedText:
    """One text with its label and what was predicted."""

    text: str
    label: str
    prediction: str
    probability: float

    @property
    def is_right(self) -> bool:
        """Label and prediction agree."""
        return self.label == self.prediction


@dataclass(frozen=True)
class ContinuedText:
    """A prompt, and what the model wrote after it."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class ShownSamples:
    """The samples of the newest step that has any."""

    step: int | None
    filled: tuple[FilledText, ...] = ()
    classified: tuple[ClassifiedText, ...] = ()
    continued: tuple[ContinuedText, ...] = ()
    others: tuple[tuple[tuple[str, str], ...], ...] = ()
    """(name, value) of the fields of each sample of another form."""


def shown_samples(run: RunRecord, step: int | None = None) -> ShownSamples:
    """The samples of `step`, or of the newest step; malformed ones are left out."""
    steps = [sample["step"] for sample in run.samples if isinstance(sample.get("step"), int)]
    if not steps:
        return ShownSamples(None)
    newest = max(steps) if step is None else step
    chosen = [sample for sample in run.samples if sample.get("step") == newest]
    forms: dict[str, list[dict[str, Any]]] = {form: [] for form in (*_FORMS, "")}
    for sample in chosen:
        forms[next((form for form in _FORMS if form in sample), "")].append(sample)
    return ShownSamples(
        newest,
        tuple(filled_text(sample) for sample in forms["tokens"][:MAX_SAMPLES]),
        tuple(_classified(sample) for sample in forms["prediction"][:MAX_SAMPLES]),
        tuple(
            ContinuedText(_text(sample.get("prompt")), _text(sample.get("completion")))
            for sample in forms["completion"][:MAX_SAMPLES]
        ),
        tuple(_fields(sample) for sample in forms[""][:MAX_SAMPLES]),
    )


_FORMS = ("tokens", "prediction", "completion")
"""Keys that tell a filled text, a classified one and a continued one; other samples are shown as fields."""


def _fields(sample: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((_text(name, 200), _text(value)) for name, value in sample.items() if name not in ("step", "kind"))


def filled_text(sample: dict[str, Any]) -> FilledText:
    """A sample of masked tokens; word pieces and byte-pair pieces are joined as they were in the text."""
    tokens = sample.get("tokens")
    found = [token for token in tokens if isinstance(token, dict)] if isinstance(tokens, list) else []
    texts = [_text(token.get("text")) for token in found]
    style = _joining(texts)
    shown = tuple(_tokens(found[:MAX_TOKENS], style))
    return FilledText(shown, len(found) > MAX_TOKENS)


def _tokens(found: list[dict[str, Any]], style: str) -> Iterator[ShownToken]:
    for index, token in enumerate(found):
        text, gap = _surface(_text(token.get("text")), style)
        guess, _ = _surface(_text(token.get("guess", "")), style)
        if not token.get("masked"):
            yield ShownToken(text, "given", gap=gap and index > 0)
            continue
        share = to_float(token.get("probability"))
        share = min(1.0, max(0.0, share)) if math.isfinite(share) else 0.0
        outcome: Outcome = "right" if token.get("right") else "wrong"
        yield ShownToken(text, outcome, guess, share, gap and index > 0)


def _joining(texts: list[str]) -> str:
    """How these tokens make a text: marked pieces ("##", "Ġ", "▁"), words, or letters that follow each other."""
    for prefix in ("##", "\u0120", "\u2581"):
        if any(text.startswith(prefix) and len(text) > len(prefix) for text in texts):
            return prefix
    has_blank = any(text.isspace() or text[:1].isspace() for text in texts)
    mean_length = sum(map(len, texts)) / max(1, len(texts))
    return "" if has_blank or mean_length < 1.5 or len(set(map(len, texts))) == 1 else " "


def _surface(text: str, style: str) -> tuple[str, bool]:
    if style == "##":
        return (text[2:], False) if text.startswith("##") else (text, True)
    if style in ("\u0120", "\u2581"):
        return (
            (text[1:].replace("\u010a", "\n"), True)
            if text.startswith(style)
            else (text.replace("\u010a", "\n"), False)
        )
    return text, style == " "


def _classified(sample: dict[str, Any]) -> ClassifiedText:
    return ClassifiedText(
        _text(sample.get("text")),
        _text(sample.get("label"), 200),
        _text(sample.get("prediction"), 200),
        to_float(sample.get("probability")),
    )


def _text(value: Any, length: int = MAX_TEXT) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None else str(value)
    return text if len(text) <= length else text[: length - 1] + "…"
