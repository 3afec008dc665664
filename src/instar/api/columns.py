"""Which columns of a dataset reach the model: those that its forward takes, and of the rest none that is a text."""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch

_log = logging.getLogger(__name__)


class KeepColumns:
    """A collator before which samples lose what the model's forward does not take. Looks at the first one only."""

    def __init__(self, collator: Callable[[list[Any]], Any], names: Collection[str], model_name: str) -> None:
        self.collator = collator
        self.names = frozenset(names)
        self.model_name = model_name
        self._is_said = False

    def __call__(self, samples: list[Any]) -> Any:
        if isinstance(samples[0], Mapping) and not self.names.issuperset(samples[0]):
            if not self._is_said:
                ignored = sorted(set(samples[0]) - self.names)
                _log.info("%s.forward does not take %s: they are left out", self.model_name, ", ".join(ignored))
                self._is_said = True
            samples = [{name: sample[name] for name in sample if name in self.names} for sample in samples]
        return self.collator(samples)


class KeepTensors:
    """A collator that is tried with the samples as they are, and again without what is no number if it fails.

    A collator that reads texts gets them; one that cannot make a tensor of a text is not given any that the model's
    forward does not take either. Which of the two is found out with the first batch.
    """

    def __init__(self, collator: Callable[[list[Any]], Any], names: Collection[str]) -> None:
        self.collator = collator
        self.names = frozenset(names)
        self._dropped: frozenset[str] | None = None

    def __call__(self, samples: list[Any]) -> Any:
        if not isinstance(samples[0], Mapping):
            return self.collator(samples)
        if self._dropped is not None:
            return self.collator([self._kept(sample) for sample in samples] if self._dropped else samples)
        no_tensors = {name for name, value in samples[0].items() if name not in self.names and not _is_number(value)}
        if not no_tensors:
            self._dropped = frozenset()
            return self.collator(samples)
        return self._tried(samples, no_tensors)

    def _tried(self, samples: list[Any], no_tensors: set[str]) -> Any:
        try:
            batch = self.collator([dict(sample) for sample in samples])  # a collator may take things out
        except (ValueError, TypeError) as error:
            kept = [{name: sample[name] for name in sample if name not in no_tensors} for sample in samples]
            try:
                batch = self.collator(kept)
            except (ValueError, TypeError, KeyError):
                raise error from None
            _log.warning(
                "%s fails on %s, which the model does not take and which is no number: left out before collation",
                type(self.collator).__name__,
                ", ".join(sorted(no_tensors)),
            )
            self._dropped = frozenset(no_tensors)
            return batch
        self._dropped = frozenset()
        return batch

    def _kept(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        assert self._dropped is not None
        return {name: value for name, value in sample.items() if name not in self._dropped}


def _is_number(value: Any) -> bool:
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return isinstance(value, int | float | complex | np.ndarray | np.generic | torch.Tensor | list | tuple)


def is_no_tensor(value: Any) -> bool:
    """True for a text, and for a list that has no tensor at its beginning."""
    if not isinstance(value, str | list):
        return False
    while isinstance(value, list) and value:
        value = value[0]
    return not isinstance(value, torch.Tensor)
