"""What one pass of an evaluation gathers, batch by batch, and makes of it at the end."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.trainer_utils import EvalPrediction, has_length

from instar.api.averaging import Average
from instar.api.base import TrainerParts
from instar.api.containers import Pile, find_batch_size
from instar.api.gathering import Share, gather_rows, interleave, keep_rows
from instar.api.targets import MeanLoss, count_targets, mean_loss, row_losses


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One batch of this rank: its inputs, and how many of its rows are no repetition."""

    inputs: Any
    num_read: int
    num_real: int


class EvaluationPass:
    """Gathers what the steps of one pass give, over all ranks; see `Trainer.evaluation_loop` for the promises."""

    def __init__(self, trainer: TrainerParts, dataloader: Any, *, keeps_outputs: bool) -> None:
        self._trainer = trainer
        args = trainer.args
        self._is_by_batch = bool(args.batch_eval_metrics)
        self._keeps = keeps_outputs or not self._is_by_batch
        dataset: Any = getattr(dataloader, "dataset", None)
        self._expected = len(dataset) if has_length(dataset) else None
        self._share = Share(trainer.runtime, dataloader)
        self._piles = {name: self._pile() for name in ("predictions", "labels", "inputs")}
        self._losses = MeanLoss()
        self._metrics: Any = None
        self._num_rows = 0
        self._num_steps = 0

    def _pile(self) -> Pile:
        args = self._trainer.args
        return Pile(
            num_rows=self._expected,
            batches_on_device=args.eval_accumulation_steps or 1,
            join=args.eval_do_concat_batches,
        )

    def real_rows(self, inputs: Any) -> Rows:
        """The batch without the rows that only fill it up, as far as something to run the model on is left."""
        read = find_batch_size(inputs)
        read = self._trainer.args.eval_batch_size if read is None else read
        real = self._share.real_rows(self._num_steps, read)
        self._num_steps += 1
        return Rows(inputs=keep_rows(inputs, real, read) if real else inputs, num_read=real or read, num_real=real)

    def add(self, rows: Rows, loss: Any, logits: Any, labels: Any, *, is_last: bool) -> None:
        """What `prediction_step` made of one batch."""
        trainer = self._trainer
        if loss is not None:
            self._losses.add(loss, self._targets(rows), rows.num_real)
        self._num_rows += rows.num_real
        main_input = self._main_input(rows)
        if logits is not None and trainer.preprocess_logits_for_metrics is not None:
            logits = trainer.preprocess_logits_for_metrics(logits, labels)
        logits, labels, main_input = (self._gathered(nest, rows) for nest in (logits, labels, main_input))
        if self._keeps:
            for name, nest in (("predictions", logits), ("labels", labels), ("inputs", main_input)):
                if nest is not None:
                    self._piles[name].add(nest)
        if self._is_by_batch and trainer.compute_metrics is not None and logits is not None and labels is not None:
            extras = self._extras(self._row_losses_of(loss, rows), rows.inputs)
            seen = EvalPrediction(logits, labels, **extras)
            self._metrics = trainer.compute_metrics(seen, compute_result=is_last)

    def _targets(self, rows: Rows) -> Any:
        if not rows.num_real:
            return 0
        trainer, average = self._trainer, self._trainer._evaluated_over
        config = getattr(trainer.model, "config", None)
        shifts = trainer._loss_shifts_labels if average is None else average is Average.SHIFTED
        counted = count_targets(rows.inputs, trainer.label_names, shifts=shifts, config=config)
        return rows.num_real if counted is None else counted

    def _main_input(self, rows: Rows) -> Any:
        if "inputs" not in self._trainer.args.include_for_metrics:
            return None
        name = getattr(self._trainer.model, "main_input_name", "input_ids")
        if name not in rows.inputs:
            raise ValueError(
                f"include_for_metrics asks for the model's inputs, and its main input, {name!r}, is not in the batch "
                f"({', '.join(rows.inputs)}); set `main_input_name` on the model"
            )
        return self._trainer._prepare_input(rows.inputs[name])

    def _gathered(self, nest: Any, rows: Rows) -> Any:
        if not self._share.is_one_of_several:
            return nest
        return gather_rows(keep_rows(nest, rows.num_real, rows.num_read), self._trainer.runtime)

    def _row_losses_of(self, loss: Any, rows: Rows) -> Any:
        return None if loss is None else self._gathered(torch.as_tensor(loss).repeat(rows.num_read), rows)

    def _extras(self, losses: Any, inputs: Any) -> dict[str, Any]:
        wanted = self._trainer.args.include_for_metrics
        return {
            "losses": losses if "loss" in wanted else None,
            "inputs": inputs if "inputs" in wanted else None,
        }

    def predictions(self) -> Any:
        """All outputs, as `EvalLoopOutput.predictions`."""
        return self._piles["predictions"].take()

    def labels(self) -> Any:
        """All labels, as `EvalLoopOutput.label_ids`."""
        return self._piles["labels"].take()

    def metrics(self, predictions: Any, labels: Any) -> Any:
        """What the users' `compute_metrics` says; nothing where there is nothing to say it of."""
        compute = self._trainer.compute_metrics
        if self._is_by_batch or compute is None or predictions is None or labels is None:
            return self._metrics or {}
        table_N3 = self._loss_table()
        losses = row_losses(table_N3) if len(table_N3) else None
        return compute(EvalPrediction(predictions, labels, **self._extras(losses, self._piles["inputs"].take()))) or {}

    def _loss_table(self) -> NDArray[np.float64]:
        table_N3 = self._losses.table()
        if not self._share.is_one_of_several:
            return table_N3
        gathered = gather_rows(torch.from_numpy(table_N3[None]), self._trainer.runtime)
        return interleave(list(gathered.cpu().numpy()))

    def loss(self) -> float | None:
        """The loss over all targets of all ranks; None where `prediction_step` gave none."""
        table_N3 = self._loss_table()
        if len(table_N3) and self._trainer._evaluated_over is Average.BATCH:
            table_N3[:, 1] = table_N3[:, 2]  # found after the first batch
        return mean_loss(table_N3)

    def num_samples(self) -> int:
        """The rows that were really there, on all ranks."""
        if not self._share.is_one_of_several:
            return self._num_rows
        counted = torch.tensor(float(self._num_rows), device=self._trainer.runtime.device)
        return int(self._trainer.runtime.sum(counted).item())
