"""Going on from a prompt, one token at a time.

Shape letters: V vocabulary.
"""

import numpy as np
import torch

from instar.core import seeds
from instar.data import Batch
from instar.inference.evaluate import evaluation_mode
from instar.model import Network


@torch.no_grad()
def continue_ids(
    network: Network, prompt: list[int], num_tokens: int, *, seed: int, temperature: float = 0.8
) -> list[int]:
    """The prompt's ids and `num_tokens` more, drawn from the network; a function of the seed.

    The window slides where the prompt and its continuation outgrow the network's positions.
    """
    ids = list(prompt)
    longest = network.max_length or 1 << 30
    device = next(network.parameters()).device
    with evaluation_mode(network):
        for index in range(num_tokens):
            logits_V = network(_row(ids[-longest:], device)).logits_MV()[0].float() / temperature
            probabilities_V = torch.softmax(logits_V, dim=-1).double().cpu().numpy()
            draw = float(seeds.uniform(seeds.derive(seed, "continue"), np.asarray([index]), np.asarray([0]))[0])
            ids.append(min(int(np.searchsorted(np.cumsum(probabilities_V), draw)), len(probabilities_V) - 1))
    return ids


def _row(ids: list[int], device: torch.device) -> Batch:
    batch = Batch(
        ids_T=torch.tensor(ids),
        lengths=(len(ids),),
        samples_D=np.zeros(1, dtype=np.int64),
        epochs_D=np.zeros(1, dtype=np.int64),
        read_M=torch.tensor([len(ids) - 1]),
    )
    return batch.to(device)
