"""Which tokens are masked; one file a policy.

A policy offers `choose(batch, rate, key, step) -> positions`: ascending positions in the packed row, as a function of
the batch, the key, and for a policy that learns, of what the steps before it measured.
"""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from instar.masking.adaptive import Adaptive
from instar.masking.base import MaskingLike, Policy
from instar.masking.bernoulli import Bernoulli
from instar.masking.frequency import Frequency
from instar.masking.span import Span
from instar.masking.static import Static
from instar.masking.type_average import TypeAverage
from instar.masking.uniform import Uniform
from instar.masking.whole_word import WholeWord


def _kind(value: Any) -> str | None:
    return value.get("kind", "uniform") if isinstance(value, dict) else getattr(value, "kind", None)


Masking = Annotated[
    Annotated[Uniform, Tag("uniform")]
    | Annotated[Adaptive, Tag("adaptive")]
    | Annotated[Bernoulli, Tag("bernoulli")]
    | Annotated[Frequency, Tag("frequency")]
    | Annotated[TypeAverage, Tag("type_average")]
    | Annotated[Span, Tag("span")]
    | Annotated[WholeWord, Tag("whole_word")]
    | Annotated[Static, Tag("static")],
    Discriminator(_kind),
]
"""A policy's config, chosen by `kind`; uniform where none is named."""

__all__ = [
    "Adaptive",
    "Bernoulli",
    "Frequency",
    "Masking",
    "MaskingLike",
    "Policy",
    "Span",
    "Static",
    "TypeAverage",
    "Uniform",
    "WholeWord",
]
