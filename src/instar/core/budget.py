"""Amounts with units: "3 epochs", "2000 steps", "50_000_000 tokens", "10 minutes"."""

import re
from dataclasses import dataclass

UNITS = ("steps", "epochs", "samples", "tokens", "minutes")
_LARGEST = 1e18
_PATTERN = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE]\+?[0-9]+)?)\s+([a-z]+)\s*")


@dataclass(frozen=True)
class Budget:
    """How much, in which unit. `str()` and `parse()` undo each other."""

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: object, units: tuple[str, ...] = UNITS) -> "Budget":
        """Read "NUMBER UNIT"; raises ValueError that names the wanted units and what came."""
        if isinstance(text, Budget):
            return text
        wanted = f"a number above 0 and a unit ({', '.join(units)}), like '500 {units[0]}'"
        match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"wanted {wanted}; got {text!r}")
        unit = match[2] if match[2].endswith("s") else match[2] + "s"
        amount = float(match[1].replace("_", ""))
        if unit not in units or not 0 < amount <= _LARGEST:
            raise ValueError(f"wanted {wanted}; got {text!r}")
        if amount != int(amount) and unit not in ("epochs", "minutes"):
            raise ValueError(f"wanted a whole number of {unit}; got {text!r}")
        return cls(amount, unit)

    def __str__(self) -> str:
        amount = int(self.amount) if self.amount == int(self.amount) else self.amount
        return f"{amount} {self.unit}"
