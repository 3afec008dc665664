"""What a name of `optim` stands for."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from torch import nn

from instar.api.optimizers.options import Option


class OptimizerArguments(Protocol):
    """The training arguments that an optimizer reads."""

    @property
    def optim(self) -> Any: ...
    @property
    def optim_args(self) -> Any: ...
    @property
    def optim_target_modules(self) -> Any: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def adam_beta1(self) -> float: ...
    @property
    def adam_beta2(self) -> float: ...
    @property
    def adam_epsilon(self) -> float: ...


class MissingOptimizerError(ImportError, ValueError):
    """The package of an optimizer is not installed; the text holds the install line."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One optimizer as asked for: what a recipe's `finish` may look at."""

    name: str
    args: OptimizerArguments
    model: nn.Module | None
    num_training_steps: int | None
    """Steps of the whole training, where they are known."""
    options: Mapping[str, Any]
    """What `optim_args` gave, read."""

    @property
    def adam(self) -> dict[str, Any]:
        """The arguments that all kinds of Adam share."""
        return {"betas": (self.args.adam_beta1, self.args.adam_beta2), "eps": self.args.adam_epsilon}

    def needed_model(self) -> nn.Module:
        """The model; ValueError where none was given."""
        if self.model is None:
            raise ValueError(f"optim={self.name!r} reads the model: pass it as the second argument")
        return self.model

    def refuse_several_passes(self) -> None:
        """What an optimizer that updates in the backward pass cannot do: ValueError, with ranks NotImplementedError."""
        if getattr(self.args, "world_size", 1) > 1 or getattr(self.args, "fsdp", None):
            raise NotImplementedError(
                f"optim={self.name!r} updates each rank's weights from that rank's gradients, and they would part; "
                "use one process without FSDP, or an optimizer that steps after the backward pass"
            )
        if getattr(self.args, "gradient_accumulation_steps", 1) != 1:
            raise ValueError(
                f"optim={self.name!r} updates in every backward pass: wanted gradient_accumulation_steps=1; "
                f"got {self.args.gradient_accumulation_steps}"  # type: ignore[attr-defined]
            )
        if getattr(self.args, "auto_find_batch_size", False):
            raise ValueError(
                f"optim={self.name!r} updates weights while gradients are made, so that a step that ran out of memory "
                "cannot be made again: auto_find_batch_size cannot be used"
            )
        if getattr(self.args, "fp16", False):
            raise ValueError(f"optim={self.name!r} leaves no gradients to unscale, so fp16 cannot be used; bf16 can")


Finish = Callable[[Request, Any, dict[str, Any]], tuple[Any, dict[str, Any]]]


@contextmanager
def _own_logging() -> Iterator[None]:
    """Leave the root logger as it is: grokadamw sets it up anew when it is imported."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A class, where it comes from, and which arguments it takes besides the learning rate."""

    target: str
    """MODULE:CLASS; imported when the optimizer is asked for."""
    install: str = ""
    """The command that installs its package."""
    betas: bool = False
    """Takes adam_beta1 and adam_beta2."""
    eps: bool = False
    """Takes adam_epsilon."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Values that the name itself means; an option of the same name goes before them."""
    options: Mapping[str, Option] = field(default_factory=dict)
    """What `optim_args` may hold."""
    finish: Finish | None = None
    """What no table can say."""
    reads_targets: bool = False
    """Acts on `optim_target_modules`."""

    def load(self, name: str) -> type[Any]:
        """The class; MissingOptimizerError with the install line where its package is missing."""
        module, _, attribute = self.target.partition(":")
        try:
            with _own_logging():
                found: type[Any] = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise MissingOptimizerError(
                f"optim={name!r} needs {attribute} of the package {module.partition('.')[0]}: {self.install} ({error})"
            ) from error
        return found

    def kwargs(self, request: Request) -> dict[str, Any]:
        """Keyword arguments of the class, before `finish`."""
        adam = request.adam
        shared = {"lr": request.args.learning_rate}
        shared |= {"betas": adam["betas"]} if self.betas else {}
        shared |= {"eps": adam["eps"]} if self.eps else {}
        return shared | dict(self.fixed) | dict(request.options)
