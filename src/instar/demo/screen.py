"""What the demo prints: headings, plain sentences, texts with masked letters, and bars."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

Token = dict[str, Any]
_BLANK = "\u2423"
_MASKED = "_"


class Screen:
    """Prints on stdout, in colours on a terminal and as a plain log elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.console.width = min(self.console.width, 100)

    @property
    def has_colours(self) -> bool:
        """Whether colour can tell right from wrong."""
        return self.console.is_terminal and not self.console.no_color

    def found(self, folder: Path, how: str) -> None:
        """How the demo's folder was found."""
        if how == "resumed":
            self.console.print(f"An interrupted demo lies in {folder}: its trainings resume.")
        elif how == "replaced":
            self.console.print(f"The earlier demo in {folder} is replaced.")

    def part(self, number: int, title: str) -> None:
        """Begin a part of the demo."""
        self.console.print()
        self.console.print(Text(f"({number}) {title}", style="bold"))

    def say(self, text: str, *, style: str = "") -> None:
        """A paragraph."""
        self._wrapped(Text(text, style=style), "    ")

    def line(self, text: str) -> None:
        """A line as it is: cut at the edge of a terminal, whole in a log."""
        whole = Text(f"    {text}")
        if self.console.is_terminal:
            self.console.print(whole, no_wrap=True, overflow="ellipsis")
        else:
            self.console.print(whole, soft_wrap=True)

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names, and what was measured."""
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            self.line(f"{name:<{width}}  {value}")

    def masked(self, tokens: Sequence[Token]) -> None:
        """A text as the network sees it."""
        shown = Text("\u2026")
        for token in tokens:
            shown.append(*((_MASKED, "bold yellow") if token["masked"] else (token["text"], "")))
        self._text(shown)

    def filled(self, tokens: Sequence[Token]) -> None:
        """A text with the guesses in it: right and wrong by colour, or the wrong in [brackets]."""
        shown = Text("\u2026")
        for token in tokens:
            if not token["masked"]:
                shown.append(token["text"])
                continue
            guess = _BLANK if token["guess"] == " " and not token["right"] else token["guess"]
            if self.has_colours:
                shown.append(guess, "bold green" if token["right"] else "bold white on red")
            else:
                shown.append(guess if token["right"] else f"[{guess}]")
        self._text(shown)

    def legend(self) -> str:
        """How a wrong guess is shown."""
        return "green is right, red is wrong" if self.has_colours else "wrong guesses in [brackets]"

    def _text(self, shown: Text) -> None:
        shown.append("\u2026")
        self._wrapped(shown, "      ")

    def _wrapped(self, text: Text, indent: str) -> None:
        """Lines that end where their words end."""
        for line in text.wrap(self.console, self.console.width - 2 * len(indent)):
            line.rstrip()
            self.console.print(Text.assemble(indent, line), soft_wrap=True)

    @contextmanager
    def bar(self, total: float) -> Iterator["Bar"]:
        """A live bar on a terminal; elsewhere a line for every tenth."""
        if not self.console.is_terminal:
            yield Bar(self, total)
            return
        columns = (TextColumn("   "), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f} %"))
        with Progress(*columns, TextColumn("{task.description}"), console=self.console) as live:
            yield Bar(self, total, live, live.add_task("starting", total=total))


class Bar:
    """How far a training is."""

    def __init__(self, screen: Screen, total: float, live: Progress | None = None, task: TaskID | None = None) -> None:
        self.screen, self.total = screen, total
        self._live, self._task = live, task
        self._tenth = 0

    def show(self, done: float, figures: str) -> None:
        """Show where it is; prints nothing new off a terminal before the next tenth is reached."""
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, description=figures)
            return
        tenth = int(10 * done / self.total + 1e-9)
        if tenth > self._tenth:
            self._tenth = tenth
            self.screen.line(f"{10 * tenth:>3} %  {figures}")

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.screen.say(text, style="bold")
