"""The report as one page that needs nothing else: no network, no script."""

import base64
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from instar.report.figures import FigurePlan, final_scores
from instar.report.headline import compact, headline
from instar.report.reading import RunRecord
from instar.report.samples import shown_samples

MAX_BYTES = 2_000_000
"""A report is smaller; figures past this budget are left to the figures folder, and the page says so."""
_FIGURE_BUDGET = 1_400_000


@dataclass(frozen=True)
class EmbeddedFigure:
    """A figure inside the page, for light and dark screens."""

    plan: FigurePlan
    light: str
    dark: str

    @classmethod
    def of(cls, plan: FigurePlan, *, light: bytes, dark: bytes) -> "EmbeddedFigure":
        """A figure from its two SVG files."""
        return cls(plan, _data_uri(light), _data_uri(dark))


@dataclass(frozen=True)
class RunFileLine:
    """A line of the resolved run file, and where its value came from."""

    text: str
    origin: str


def render_page(run: RunRecord, figures: list[EmbeddedFigure], num_left_out: int) -> bytes:
    """The page as UTF-8; every word from the run is escaped, and the page forbids itself scripts and requests."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("instar.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(compact=compact, percent=_percent)
    shown = _within_budget(figures)
    page = environment.get_template("report.html.j2").render(
        run=run,
        tiles=headline(run),
        figures=shown,
        scores=final_scores(run),
        num_left_out=num_left_out + len(figures) - len(shown),
        samples=shown_samples(run),
        run_lines=list(_run_lines(run.run_file or "")),
    )
    return page.encode("utf-8", "backslashreplace")


def _within_budget(figures: list[EmbeddedFigure]) -> list[EmbeddedFigure]:
    sizes = accumulate(len(figure.light) + len(figure.dark) for figure in figures)
    return [figure for figure, num_bytes in zip(figures, sizes, strict=True) if num_bytes <= _FIGURE_BUDGET]


def _data_uri(content: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"


def _run_lines(text: str) -> Iterator[RunFileLine]:
    for line in text.splitlines():
        value, mark, origin = line.rpartition("  # ")
        yield RunFileLine(value, origin) if mark else RunFileLine(line, "")


def _percent(share: Any) -> str:
    return f"{share:.0%}" if isinstance(share, float) and math.isfinite(share) else ""
