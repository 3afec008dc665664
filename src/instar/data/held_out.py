"""Splits that are rows, files or parts of the training data: short forms in a run file, sources of their own later."""

from collections.abc import Iterator, Mapping
from typing import Any

from instar.config.base import KeyFaults
from instar.data.source import ColumnSource, Genome

_SPLITS = ("eval", "test")


def separate(data: dict[str, Any]) -> dict[str, Any]:
    """A data section as parsed, with short forms of `eval` and `test` made sources of their own like `train`.

    They are `{column, value}`, `{path}`, `{chromosomes}` and `{intervals}`.

    Rows that they have are left out of `train` (unless its own `rows` choose by that column), and so are files, and
    parts of a genome (unless `train` names its own).
    """
    train = data.get("train")
    if not isinstance(train, dict):
        return data
    if "sources" in train and any(isinstance(data.get(name), dict) and not _is_apart(data[name]) for name in _SPLITS):
        raise KeyFaults(
            [f"{_SPLITS[0]}: rows, files or parts of a mixture cannot be held out; name a source, or {{split: 0.02}}"]
        )
    found = dict(data)
    for name in _SPLITS:
        split = data.get(name)
        if not isinstance(split, dict) or "kind" in split:
            continue
        if set(split) == {"column", "value"}:
            found[name] = {**train, "rows": split}
            found["train"] = _without_rows(name, found["train"], split)
        elif split and set(split) <= {"chromosomes", "intervals"}:
            found[name], found["train"] = _parts_of_genome(train, found["train"], split)
        elif set(split) == {"path"}:
            found[name] = {**train, "path": split["path"]}
            found["train"] = {
                **found["train"],
                "left_out": [*found["train"].get("left_out", []), *_list(split["path"])],
            }
    return found


def _parts_of_genome(train: dict[str, Any], rest: dict[str, Any], split: dict[str, Any]) -> tuple[Any, Any]:
    """(held out, trained on); a training source that chooses a part itself stays as it is."""
    held_out = {key: value for key, value in train.items() if key not in Genome.choice} | split
    if train.get("chromosomes") is not None or train.get("intervals") is not None:
        return held_out, rest
    key = "exclude_intervals" if "intervals" in split else "exclude_chromosomes"
    out = split["intervals"] if "intervals" in split else split["chromosomes"]
    return held_out, {**rest, key: [*_list(rest.get(key, [])), *_list(out)]}


def _is_apart(split: dict[str, Any]) -> bool:
    """True for a source, or a share of the training data."""
    return "kind" in split or "split" in split or "fraction" in split


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _without_rows(name: str, train: dict[str, Any], split: dict[str, Any]) -> dict[str, Any]:
    chosen, held = train.get("rows"), train.get("rows_left_out")
    if isinstance(chosen, dict) and chosen.get("column") == split["column"]:
        return train
    values = _list(split["value"])
    if isinstance(held, dict):
        if held.get("column") != split["column"]:
            text = f"eval and test are to be rows by one column, '{held.get('column')}'; got '{split['column']}'"
            raise KeyFaults([f"{name}.column: {text}"])
        values = [*_list(held.get("value")), *values]
    return {**train, "rows_left_out": {"column": split["column"], "value": values}}


def shared_rows(splits: Mapping[str, Any]) -> Iterator[str]:
    """A fault for each two splits that would read the same rows."""
    named = [(name, split) for name, split in splits.items() if isinstance(split, ColumnSource) and split.rows]
    for number, (name, split) in enumerate(named):
        for other, earlier in named[:number]:
            if split.rows is None or earlier.rows is None or split.path != earlier.path:
                continue
            both = split.rows.texts & earlier.rows.texts if split.rows.column == earlier.rows.column else set()
            if both:
                yield f"{name}: has rows of '{', '.join(sorted(both))}' in column '{split.rows.column}', as {other} has"
