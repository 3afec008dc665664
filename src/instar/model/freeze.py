"""Which parameters are trained, chosen by patterns on their names."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import accumulate

from torch import nn

from instar.core.errors import ConfigError
from instar.model.network import Network

_SHOWN = 3


def freeze(network: Network, trainable: Sequence[str] | None, frozen: Sequence[str]) -> tuple[str, ...]:
    """Take the gradients from all parameters but those to be trained; lines that a user should read.

    Patterns are globs (`*`, `?`, `[a-z]`) on whole names as `named_parameters` of the Transformers model shows them;
    those of further heads begin with `heads.`. `trainable` None: all. What `frozen` matches is frozen, whatever else
    matches it. A tensor with several names (tied weights) is frozen under any of them. What the model itself does not
    train stays so. Call it before the optimizer is made.

    ConfigError for patterns that match nothing, for tied names of which `trainable` matches some, and where nothing is
    left to train.
    """
    named = _names(network)
    faults = [
        *_unmatched("train.trainable", trainable or (), named),
        *_unmatched("train.frozen", frozen, named),
        *_torn(trainable, frozen, named),
    ]
    if faults:
        raise ConfigError(faults)
    notices = []
    for parameter, names in named:
        is_frozen = any(_matches(name, frozen) for name in names)
        is_chosen = trainable is None or any(_matches(name, trainable) for name in names)
        parameter.requires_grad_(parameter.requires_grad and is_chosen and not is_frozen)
        if is_frozen and len(names) > 1:
            notices.append(f"train.frozen: {' and '.join(names)} are one tensor (tied weights): it is frozen")
    if not any(parameter.requires_grad for parameter, _ in named):
        raise ConfigError(
            ["train.trainable, train.frozen: nothing is left to train; a run with `train.frozen: true` only measures"]
        )
    return tuple(notices)


def trained_numbers(network: nn.Module) -> tuple[int, int]:
    """(numbers that are trained, numbers that are frozen), tied ones once."""
    sizes = [(parameter.requires_grad, parameter.numel()) for parameter in network.parameters()]
    return sum(size for is_trained, size in sizes if is_trained), sum(
        size for is_trained, size in sizes if not is_trained
    )


def _names(network: Network) -> list[tuple[nn.Parameter, tuple[str, ...]]]:
    """Each parameter with all its names, as Transformers has them."""
    found: dict[int, tuple[nn.Parameter, list[str]]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        found.setdefault(id(parameter), (parameter, []))[1].append(name.removeprefix("model."))
    return [(parameter, tuple(names)) for parameter, names in found.values()]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _unmatched(
    key: str, patterns: Sequence[str], named: Sequence[tuple[nn.Parameter, tuple[str, ...]]]
) -> Iterator[str]:
    names = [name for _, all_names in named for name in all_names]
    modules = {f"{prefix}.*" for name in names for prefix in accumulate(name.split(".")[:-1], "{}.{}".format)}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = get_close_matches(pattern, [*names, *sorted(modules)], n=_SHOWN, cutoff=0.5)
            hint = f"; near it are {', '.join(near)}" if near else f"; names are like {', '.join(names[:_SHOWN])}"
            yield f"{key}: {pattern!r} matches no parameter of the model{hint}"


def _torn(
    trainable: Sequence[str] | None,
    frozen: Sequence[str],
    named: Sequence[tuple[nn.Parameter, tuple[str, ...]]],
) -> Iterator[str]:
    """Tied tensors that `trainable` chooses under one name and not under another."""
    for _, names in named:
        chosen = [name for name in names if trainable is None or _matches(name, trainable)]
        left = [name for name in names if name not in chosen]
        if chosen and left and not any(_matches(name, frozen) for name in names):
            yield (
                f"train.trainable: matches {chosen[0]} and not {left[0]}, which are one tensor (tied weights); add "
                f"{left[0]} to train.trainable, or to train.frozen"
            )
