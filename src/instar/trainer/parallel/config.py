"""How the processes of a run share its work: `train.parallel`, one file a kind."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from instar.trainer.parallel.auto import Auto
from instar.trainer.parallel.ddp import Ddp
from instar.trainer.parallel.fsdp import Fsdp

__all__ = ["Auto", "Ddp", "Fsdp", "Parallel"]


def _kind(value: Any) -> str | None:
    """The kind that a value names; none is `auto`."""
    return value.get("kind", "auto") if isinstance(value, dict) else getattr(value, "kind", None)


Parallel = Annotated[
    Annotated[Auto, Tag("auto")] | Annotated[Ddp, Tag("ddp")] | Annotated[Fsdp, Tag("fsdp")],
    Discriminator(_kind),
]
"""Any way to run on several processes, chosen by `kind`."""
