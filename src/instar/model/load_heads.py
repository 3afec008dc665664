"""The heads beside a model's own, taken from the folder that it comes from."""

from dataclasses import replace
from pathlib import Path

import torch

from instar.core.errors import DataError
from instar.model.layer_heads import PREFIX, WEIGHTS, read_specs, read_weights
from instar.model.load import Crossing
from instar.model.network import Network, Shape


@torch.no_grad()
def carry_heads(network: Network, crossing: Crossing) -> None:
    """Give a network the further heads of its folder, frozen, so that no checkpoint loses one, and report them.

    But not those of the model's own task where its head is new, since their labels were others. DataError for damaged
    files.
    """
    folder = Path(crossing.source.path)
    saved = read_specs(folder)
    if not saved:
        return
    weights = read_weights(folder)
    shapes: dict[str, tuple[Shape | None, Shape | None]] = {
        name: (tuple(value.shape), None) for name, value in weights.items()
    }
    averaged = {name: value for name, value in crossing.weights.items() if name in weights}
    before = network.loaded
    network.add_heads([spec for spec in saved if crossing.keeps_head or spec.task != network.own_task], seed=0)
    network.heads.requires_grad_(False)
    for name, parameter in network.heads.named_parameters(prefix=PREFIX.rstrip(".")):
        value = (weights | averaged).get(name)
        if value is None or value.shape != parameter.shape or not bool(torch.isfinite(value).all()):
            got = "nothing" if value is None else f"{list(value.shape)}, or numbers that are not finite"
            raise DataError(f"{folder / WEIGHTS}: {name}: wanted a tensor {list(parameter.shape)}; got {got}")
        parameter.copy_(value)
        shapes[name] = (tuple(value.shape), tuple(value.shape))
    network.loaded = replace(
        before,
        skipped=(*before.skipped, *sorted(name for name, (_, mine) in shapes.items() if mine is None)),
        averaged=before.averaged + len(averaged),
        shapes={**before.shapes, **shapes},
    )
