"""The base of every value that a run file can hold."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, PlainSerializer, WithJsonSchema

from instar.core.budget import Budget


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


RunBudget = Annotated[Budget, *amount_of("steps", "epochs", "samples", "tokens")]
"""How long to train: "3 epochs", "2000 steps", "50_000_000 tokens"."""

Interval = Annotated[Budget, *amount_of("steps", "epochs", "minutes")]
"""How often to do something: "200 steps", "10 minutes"."""


def by_key(*keys: str, otherwise: str = "") -> Discriminator:
    """Chooses the member of a union by which of `keys` is there; else by the value of `otherwise`.

    Members are marked with `Tag(key)` (or with the value of `otherwise`):
    `Annotated[Annotated[FromFolder, Tag("from")] | Annotated[Kmer, Tag("kmer")], by_key("from", otherwise="kind")]`.
    """

    def tag_of(value: Any) -> str | None:
        if isinstance(value, BaseModel):
            names = {info.alias or name for name, info in type(value).model_fields.items()}
            chosen = getattr(value, otherwise, None) if otherwise else None
        else:
            names = set(value) if isinstance(value, dict) else set()
            chosen = value.get(otherwise) if isinstance(value, dict) and otherwise else None
        return next((key for key in keys if key in names), chosen if isinstance(chosen, str) else None)

    return Discriminator(tag_of)
