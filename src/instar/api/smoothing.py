"""Label smoothing (Szegedy et al. 2016) over the logits of a model.

B documents, T tokens, V classes.
"""

from typing import Any

from torch import Tensor
from torch.nn import functional as F


class LabelSmoother:
    """Mean cross entropy against targets of which `epsilon` is spread evenly over all classes."""

    def __init__(self, epsilon: float = 0.1, ignore_index: int = -100) -> None:
        self.epsilon = epsilon
        self.ignore_index = ignore_index

    def __call__(
        self,
        model_output: Any,
        labels: Tensor,
        shift_labels: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """The sum over targets divided by `num_items_in_batch`, or by the targets there are.

        `shift_labels`: each place is compared with the label of the next.
        """
        logits = model_output["logits"] if isinstance(model_output, dict) else model_output[0]
        if shift_labels:
            logits, labels = logits[..., :-1, :].contiguous(), labels[..., 1:].contiguous()
        summed = F.cross_entropy(
            logits.reshape(-1, logits.shape[-1]),
            labels.reshape(-1),
            ignore_index=self.ignore_index,
            reduction="sum",
            label_smoothing=self.epsilon,
        )
        if num_items_in_batch is None:
            num_items_in_batch = labels.ne(self.ignore_index).sum().clamp_min(1)
        mean: Tensor = summed / num_items_in_batch
        return mean
