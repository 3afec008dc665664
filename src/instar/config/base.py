"""The base of every value that a run file can hold."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)

from instar.core.budget import Budget
from instar.core.files.paths import expanded


class KeyFaults(ValueError):  # noqa: N818 (several faults, not one error)
    """Raised by a validator of a whole mapping: "KEY: what is wrong", one for each dotted key and line."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


class Config(BaseModel):
    """A frozen value; unknown keys are errors; attribute docstrings become the schema's descriptions."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=False,
        use_attribute_docstrings=True,
        arbitrary_types_allowed=True,
        validate_default=True,
        populate_by_name=True,
        allow_inf_nan=False,
    )


def amount_of(*units: str) -> tuple[BeforeValidator, PlainSerializer, WithJsonSchema]:
    """Validators of a Budget that takes only these units; for `Annotated[Budget, *amount_of(...)]`."""
    example = f"500 {units[0]}"
    schema = {"type": "string", "pattern": rf"^\s*[0-9][0-9_.eE+]*\s+({'|'.join(u + '?' for u in units)})\s*$"}
    return (
        BeforeValidator(lambda text: Budget.parse(text, units)),
        PlainSerializer(str, return_type=str),
        WithJsonSchema({**schema, "examples": [example]}),
    )


RESOLVED: Mapping[str, bool] = {"is_resolved": True}
"""Context of validation for a file that instar wrote: its paths are written out, and need not exist any more."""


def _path(text: str, info: ValidationInfo) -> str:
    try:
        return expanded(text)
    except ValueError:
        if info.context == RESOLVED:
            return text
        raise


PathText = Annotated[str, AfterValidator(_path)]
"""A path in a run file; `~` and `$NAME` stand for what they name."""

RunBudget = Annotated[Budget, *amount_of("steps", "epochs", "samples", "tokens")]
"""How long to train: "3 epochs", "2000 steps", "50_000_000 tokens"."""

Interval = Annotated[Budget, *amount_of("steps", "epochs", "minutes")]
"""How often to do something: "200 steps", "10 minutes"."""
