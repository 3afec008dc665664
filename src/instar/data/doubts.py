"""Names of classes that may mean something else: the same class twice, no label at all, or a list of flags."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from instar.data.label import number_of

_USUAL_MISSING = frozenset({"nan", "NaN", "NAN", "NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "None", "?"})
_TRUTH = {"true": Decimal(1), "false": Decimal(0)}
_FLAGS = frozenset({"0", "1", "True", "False"})


@dataclass(frozen=True, kw_only=True)
class Doubts:
    """Which doubts the options of a source leave."""

    spelling: bool = True
    """Whether two spellings of one number are refused (label_type is not set)."""
    missing: bool = True
    """Whether the usual spellings of a missing label are refused (label_missing is not set)."""

    def about(self, first_seen: Mapping[str, str], *, several: bool) -> Iterator[str]:
        """A fault for each doubt about these classes, given where each came first.

        `several`: a document may have several classes.
        """
        if several and first_seen and set(first_seen) <= _FLAGS:
            yield (
                f"{next(iter(first_seen.values()))}: the lists of classes hold 0 and 1 only; set label_kind: multi_hot "
                "if each says whether one class holds, or name the classes in task.labels if 0 and 1 are classes"
            )
            return
        if self.spelling:
            yield from _one_number(first_seen)
        if self.missing:
            yield from _usual_missing(first_seen)


def _one_number(first_seen: Mapping[str, str]) -> Iterator[str]:
    first: dict[Decimal, str] = {}
    for name, where in first_seen.items():
        number = _value(name)
        if number is None:
            continue
        other = first.setdefault(number, name)
        if other != name:
            yield (
                f"{where}: label '{name}' is equal to '{other}' ({first_seen[other]}) and written differently; set "
                "label_type: integer if the two are one class, label_type: text if they are two"
            )


def _usual_missing(first_seen: Mapping[str, str]) -> Iterator[str]:
    """Usual words, and one negative number (-1, -100) among whole numbers that are not; -1 and 1 alone are classes."""
    values = {name: _value(name) for name in first_seen}
    are_whole = all(value is not None and value == value.to_integral_value() for value in values.values())
    negative = [value for value in values.values() if value is not None and value < 0]
    is_pair = len(values) == 2 and negative and set(values.values()) == {negative[0], -negative[0]}
    is_alone = are_whole and len(negative) == 1 and len(values) > 1 and not is_pair
    for name, where in first_seen.items():
        if (is_alone and values[name] == negative[0]) or name in _USUAL_MISSING:
            yield (
                f"{where}: label '{name}' may be a missing label; set label_missing: [\"{name}\"] to leave such rows "
                "out, or label_missing: [] if it is a class"
            )


def _value(name: str) -> Decimal | None:
    truth = _TRUTH.get(name.lower())
    return number_of(name) if truth is None else truth
