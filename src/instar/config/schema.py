"""JSON Schema of a run file, for editors and for programs that write run files."""

from typing import Any

from pydantic import TypeAdapter

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(model: type[Any]) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a model; descriptions are the docstrings of the fields."""
    body = TypeAdapter(model).json_schema(by_alias=True)
    return {"$schema": DIALECT, **{key: _plain(value) for key, value in body.items()}}


def _plain(part: Any) -> Any:
    """Without OpenAPI's `discriminator`; `oneOf` becomes `anyOf`, as a default may stand for the kind."""
    if isinstance(part, list):
        return [_plain(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    kept = {key: value for key, value in part.items() if not (key == "discriminator" and "oneOf" in part)}
    return {"anyOf" if key == "oneOf" else key: _plain(value) for key, value in kept.items()}
