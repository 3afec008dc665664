"""Optimizers over decay groups; one file each."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from instar.optim.adamw import AdamW
from instar.optim.muon import Muon


def _kind(value: Any) -> str:
    return str(value.get("kind", "adamw") if isinstance(value, dict) else getattr(value, "kind", "adamw"))


Optimizer = Annotated[
    Annotated[AdamW, Tag("adamw")] | Annotated[Muon, Tag("muon")],
    Discriminator(_kind),
]
"""`{kind: muon, ...}`; AdamW where no kind is given."""

__all__ = ["AdamW", "Muon", "Optimizer"]
