"""A run file in small, with every kind of value that the loader has to read."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, Tag

from instar.config import Config, Interval, RunBudget, by_key


class Speed(Enum):
    SLOW = "slow"
    FAST = "fast"


class Constant(Config):
    """Always the same rate."""

    kind: Literal["constant"] = "constant"


class Cosine(Config):
    """Falls like a cosine."""

    kind: Literal["cosine"] = "cosine"
    floor: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rate that is left at the end."""


class AdamW(Config):
    kind: Literal["adamw"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Annotated[Constant | Cosine, Field(discriminator="kind")] = Constant()


class Momentum(Config):
    kind: Literal["momentum"] = "momentum"
    lr: float = 0.1


Optimizer = Annotated[AdamW | Momentum, Field(discriminator="kind")]


class FromFolder(Config):
    from_: Path = Field(alias="from")
    """A folder with a model."""


class FromConfig(Config):
    config: str
    num_layers: int = 2


Model = Annotated[Annotated[FromFolder, Tag("from")] | Annotated[FromConfig, Tag("config")], by_key("from", "config")]


class Train(Config):
    budget: RunBudget
    """How long to train."""
    optimizer: Optimizer = AdamW()
    save_every: Interval | None = None
    compile: bool = False


class Run(Config):
    """One run."""

    name: str = "run"
    model: Model
    train: Train
    stages: tuple[Optimizer, ...] = ()
    labels: dict[str, int] = {}
    words: list[str] = []
    rate: float | Literal["auto"] = "auto"
    speed: Speed = Speed.SLOW
