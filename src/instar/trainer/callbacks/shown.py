"""A row of a preview as a line or two for a terminal; readable without its colours."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from instar.report.samples import filled_text

MOST_CHARACTERS = 240


def shown(row: Mapping[str, Any]) -> Text:
    """A hidden token that was guessed right: [guess]; wrong: [guess, not token]. A prompt, then what was written.

    Or a text, its label, the prediction and its probability. Control characters are shown as blanks.
    """
    kind = row.get("kind")
    if kind == "mlm":
        return _masked(row)
    if kind == "causal_lm":
        text = Text("  ")
        text.append(_plain(row.get("prompt")), style="dim")
        text.append(" | ")
        return text.append(_plain(row.get("completion")), style="cyan")
    is_right = row.get("label") == row.get("prediction")
    text = Text("  ").append(_plain(row.get("text")), style="dim")
    text.append(f"  label {_plain(row.get('label'))}, ")
    chance = row.get("probability")
    said = f"predicted {_plain(row.get('prediction'))}" + (f" ({chance:.2f})" if isinstance(chance, float) else "")
    return text.append(said, style="green" if is_right else "red")


def _masked(row: Mapping[str, Any]) -> Text:
    text = Text("  ")
    for token in filled_text(dict(row)).tokens:
        if len(text) > MOST_CHARACTERS:
            return text.append(" …")
        text.append(" " if token.gap else "")
        if token.outcome == "given":
            text.append(_plain(token.text), style="dim")
        elif token.outcome == "right":
            text.append(f"[{_plain(token.guess)}]", style="green")
        else:
            text.append(f"[{_plain(token.guess)}", style="red")
            text.append(f", not {_plain(token.text)}]", style="yellow")
    return text


def _plain(value: Any) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
