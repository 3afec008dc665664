"""Training on the one loop."""

import logging
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers.trainer_utils import TrainOutput, enable_full_determinism, has_length, set_seed, speed_metrics

from instar.api import preparing, traits
from instar.api.arguments import TrainingArguments
from instar.api.callbacks import TrainerState
from instar.api.counting import Counting
from instar.api.fast_path import FastPath
from instar.api.flow import Flow
from instar.api.learning import Learning
from instar.api.optimizing import Optimizing
from instar.api.steps import FaceState, MicroBatchSteps, Plan, SmallerBatchesError
from instar.api.structure import Structure
from instar.model.specialize import Changes
from instar.optim.modes import eval_mode
from instar.trainer.average import WeightAverage
from instar.trainer.loop import fit
from instar.trainer.step import StepLimits

_log = logging.getLogger(__name__)


class Training(Counting):
    """Training on the one loop."""

    _changes: Changes
    """What training changed about the model, undone when it ends."""

    def train(
        self, resume_from_checkpoint: Any = None, trial: Any = None, ignore_keys_for_eval: list[str] | None = None
    ) -> TrainOutput:
        """Train as the arguments say; from a checkpoint on where one is named (True: the newest whole one).

        A run that goes on is the run that was never stopped: same batches, same draws, same weights. ValueError for
        a checkpoint that cannot be gone on from, NonFiniteError by the argument `non_finite`.
        """
        self._memory_tracker.start("train")
        args = self.args
        self.is_in_train = True
        self._hp_search_setup(trial)  # may change the seed, and what the model is made of
        if self.model_init is not None:
            enable_full_determinism(args.seed) if args.full_determinism else set_seed(args.seed)
            self.model = self.call_model_init(trial)
            self.optimizer = self.lr_scheduler = None
            if self.place_model_on_device:
                self._move_model_to_device(self.model, args.device)
            self.model_wrapped = self.model
        self._refuse_without_loss()
        with preparing.prepared(self):
            checkpoint = self._find_checkpoint(resume_from_checkpoint)
            if checkpoint is not None:
                self._load_from_checkpoint(checkpoint)
            quiet = preparing.quiet_uploads() if args.push_to_hub else nullcontext()
            with quiet:
                return self._in_memory(checkpoint, trial, ignore_keys_for_eval)

    def _in_memory(self, checkpoint: str | None, trial: Any, ignore_keys_for_eval: list[str] | None) -> TrainOutput:
        """The training loop; again with smaller batches while memory does not suffice, where that is asked for."""
        size = self._batch_size_of(checkpoint)
        while True:
            try:
                return self._inner_training_loop(
                    batch_size=size,
                    args=self.args,
                    resume_from_checkpoint=checkpoint,
                    trial=trial,
                    ignore_keys_for_eval=ignore_keys_for_eval,
                )
            except SmallerBatchesError as smaller:
                size = smaller.size
                _log.warning(
                    "out of memory: training begins again with batches of %d samples; the loss is one of the whole "
                    "batch, so that each step and its loss are other ones than with %d samples",
                    size,
                    self._read_batch_size,
                )

    def _batch_size_of(self, checkpoint: str | None) -> int | None:
        """With `auto_find_batch_size`, the batch size that the checkpoint's run had found; None for that of `args`."""
        if checkpoint is None or not self.args.auto_find_batch_size:
            return None
        samples = self._load_loop_values(checkpoint).get("samples_a_batch")
        return None if samples is None else min(samples // self.runtime.data_size, self.args.train_batch_size)

    def _inner_training_loop(
        self,
        batch_size: int | None = None,
        args: TrainingArguments | None = None,
        resume_from_checkpoint: str | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        args = args or self.args
        self._train_batch_size = self._read_batch_size = batch_size or args.train_batch_size
        self._inspect_overrides()
        clip = self._own_clipping()
        loader = self.get_train_dataloader()
        epochs, updates, _, samples, _, batches, max_steps = self.set_initial_training_values(args, loader)
        plan = Plan(num_epochs=epochs, updates_per_epoch=updates, batches_per_epoch=batches)
        plan = self._init_training_state(plan, max_steps, resume_from_checkpoint, trial)
        self._prepare_for_training(max_steps, loader, resume_from_checkpoint)
        self._steps = MicroBatchSteps(self, loader, plan)
        self._resume_batch_size()
        self._begin_counting(resume_from_checkpoint)
        state = self._loop_state()
        preparing.say_plan(self, plan, max_steps)
        with self._changes:
            self._fast_path = self._fast_path or FastPath.of(self)
        max_norm = args.max_grad_norm if args.max_grad_norm and args.max_grad_norm > 0 else math.inf
        limits = StepLimits(max_norm=max_norm, clip=clip, skips_non_finite=args.non_finite != "log")
        fit(state, self._steps, Flow(self, trial, ignore_keys_for_eval), self.runtime, limits)
        return self._finalize_training(trial, samples)

    # ---- before ----

    def _refuse_without_loss(self) -> None:
        """ValueError where nothing can give a loss: neither the model nor anything that users brought."""
        if self.compute_loss_func is None and all(
            traits.is_own(self, Learning, name) for name in ("compute_loss", "training_step")
        ):
            traits.refuse_headless(self.model)

    def set_initial_training_values(
        self, args: TrainingArguments, dataloader: Any
    ) -> tuple[int, int, int, int, int, int, int]:
        """(epochs, updates an epoch, samples there are, samples to train on, samples a step, batches an epoch, steps).

        ValueError where neither the loader's length nor `max_steps` says how long training is.
        """
        per_step = self.get_total_train_batch_size(args)
        length = len(dataloader) if has_length(dataloader) else None
        if not length:
            if length == 0 and args.max_steps <= 0:
                raise ValueError(
                    f"there is no batch to train on: {self.num_examples(dataloader)} samples, {self._train_batch_size} "
                    f"in a batch, dataloader_drop_last={args.dataloader_drop_last}; give more samples"
                )
            if args.max_steps <= 0:
                raise ValueError(
                    "args.max_steps must be set to a positive value if dataloader does not have a length, was "
                    f"{args.max_steps}"
                )
            steps = args.max_steps
            samples = steps * per_step
            return sys.maxsize, steps, samples, samples, per_step, steps * args.gradient_accumulation_steps, steps
        updates = max(-(-length // args.gradient_accumulation_steps), 1)
        samples = self.num_examples(dataloader)
        if args.max_steps > 0:
            epochs = -(-args.max_steps // updates)
            return epochs, updates, samples, args.max_steps * per_step, per_step, length, args.max_steps
        steps = math.ceil(args.num_train_epochs * updates)
        trained = int(samples * args.num_train_epochs)
        return math.ceil(args.num_train_epochs), updates, samples, trained, per_step, length, steps

    def _init_training_state(self, plan: Plan, max_steps: int, checkpoint: str | None, trial: Any) -> Plan:
        """A new state, or that of the checkpoint; returns the plan from there on."""
        args = self.args
        self.state = TrainerState(stateful_callbacks=self._exportable())
        self.state.is_hyper_param_search = trial is not None
        self.state.train_batch_size = self._train_batch_size
        self.state.compute_steps(args, max_steps)
        if checkpoint is not None:
            self.state = self._load_state(checkpoint)
            self._load_callback_state()
            plan = self._from_checkpoint(plan, checkpoint)
        self.state.init_training_references(self, max_steps, plan.num_epochs, trial)
        return plan

    def _from_checkpoint(self, plan: Plan, checkpoint: str) -> Plan:
        epoch, update = divmod(self.state.global_step, plan.updates_per_epoch)
        batch = min(update * self.args.gradient_accumulation_steps, plan.batches_per_epoch)
        values = self._load_loop_values(checkpoint)
        if "place" in values:
            (epoch, batch), before, now = values["place"], values["samples_a_batch"], self._samples_a_batch()
            batch = batch if before == now else batch * before // now
        if batch >= plan.batches_per_epoch:
            epoch, batch = epoch + 1, 0
        batch = 0 if self.args.ignore_data_skip else batch
        _log.info("Going on from step %d: epoch %d, batch %d", self.state.global_step, epoch, batch)
        return Plan(
            num_epochs=plan.num_epochs,
            updates_per_epoch=plan.updates_per_epoch,
            batches_per_epoch=plan.batches_per_epoch,
            first_epoch=epoch,
            first_batch=batch,
        )

    def _prepare_for_training(self, max_steps: int, loader: Any, checkpoint: str | None) -> None:
        """The model as ranks see it, the optimizer, the schedule, and what the checkpoint has of them."""
        if self._created_lr_scheduler:
            self.lr_scheduler = None
            self._created_lr_scheduler = False
        self.model_wrapped = self._wrap_model(self.model)
        if traits.is_own(self, Optimizing, "create_optimizer_and_scheduler"):
            self.create_optimizer()
            self.optimizer = self.runtime.arrange(self._made_optimizer())
            self.create_scheduler(num_training_steps=max_steps)
        else:
            self.create_optimizer_and_scheduler(num_training_steps=max_steps)
        decay = self.args.weight_average_decay
        self._weight_average = None if decay is None else WeightAverage(self.model, decay)
        if checkpoint is not None:
            self._load_optimizer_and_scheduler(checkpoint)
            self._load_scaler(checkpoint)
        handler = self.callback_handler
        handler.model, handler.optimizer, handler.lr_scheduler = self.model, self.optimizer, self.lr_scheduler
        handler.train_dataloader = loader
        self.model_wrapped.train()
        if callable(getattr(self.optimizer, "train", None)):
            self.optimizer.train()  # type: ignore[union-attr]

    def _wrap_model(self, model: Any, training: bool = True, dataloader: Any = None) -> Any:
        """The model as forward passes of training see it: shared among ranks, compiled; itself for evaluation."""
        del dataloader
        if not training:
            return self.model_wrapped if self.is_in_train and self.runtime.is_sharded else model
        return preparing.wrapped(self, model)

    def _loop_state(self) -> FaceState:
        self._structure = Structure(self.model_wrapped, is_fixed=self.runtime.is_sharded)
        for parameter in self._structure.parameters:
            parameter.grad = None
        return FaceState(
            seed=self.args.seed,
            module=self.model_wrapped,
            optimizer=self._made_optimizer(),
            scaler=self._scaler,
            average=self._weight_average,
            trainer=self,
            structure=self._structure,
        )

    # ---- during ----

    def _maybe_log_save_evaluate(
        self,
        tr_loss: Tensor,
        grad_norm: Any,
        model: nn.Module,
        trial: Any,
        epoch: float | None,
        ignore_keys_for_eval: list[str] | None,
        start_time: float,
        learning_rate: float | None = None,
    ) -> None:
        """What the control asks for, once: a log record, an evaluation, a checkpoint."""
        del epoch
        self._settle_tokens()
        steps = self.state.global_step - self._globalstep_last_logged
        if self.control.should_log and steps > 0:
            self._check_finite()
            record = self._record(tr_loss, steps, grad_norm, learning_rate)
            self.log(record, start_time) if self._step_takes["log"] else self.log(record)
        if self.control.should_evaluate:
            metrics = self._evaluate(trial, ignore_keys_for_eval)
            is_best = self._determine_best_metric(metrics, trial)
            if self.args.save_strategy == "best":
                self.control.should_save = is_best
            elif self.args.save_best and is_best:
                self.control.should_save = True
        if self.control.should_save:
            self._check_finite()
            self._save_checkpoint(model, trial)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def _found_batch_size(self, size: int) -> None:
        """Memory did not suffice: train with micro-batches of `size` from this step on."""
        _log.warning(
            "out of memory: micro-batches of %d samples from step %d on; the step and its loss stay what they are",
            size,
            self.state.global_step,
        )
        self._train_batch_size = self.state.train_batch_size = size
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _resume_batch_size(self) -> None:
        """With `auto_find_batch_size`, begin with the micro-batches that the checkpoint's run had found."""
        found, asked = self.state.train_batch_size, self._read_batch_size
        if self.args.auto_find_batch_size and found and found < asked and self._steps is not None:
            self._steps.parts = -(-asked // found)
            self._train_batch_size = found
        else:
            self.state.train_batch_size = self._train_batch_size

    # ---- after ----

    def _finalize_training(self, trial: Any, num_train_samples: float) -> TrainOutput:
        self._settle_tokens()
        self._check_finite()
        steps = self.state.global_step - self._initial_global_step
        loss = self._mean_loss(self.state.global_step - self._counted_from)
        share = steps / max(self.state.max_steps, 1)
        metrics = speed_metrics("train", self._start_time, num_samples=num_train_samples * share, num_steps=steps)
        self.store_flos()
        metrics["total_flos"] = self.state.total_flos
        metrics |= loss
        self.is_in_train = False
        self._memory_tracker.stop_and_update_metrics(metrics, "train")
        self.log(metrics)
        eval_mode(self.optimizer)
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self._load_best_model()
        if self._weight_average is not None:
            self._weight_average.keep()
            self._weight_average = None
        self._finish_saving(trial)
        self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)
        self._finish_current_push()
        return TrainOutput(self.state.global_step, metrics["train_loss"], metrics)

    @contextmanager
    def _with_average(self) -> Iterator[None]:
        """The model holds the moving average of its weights within, where one is kept."""
        with nullcontext() if self._weight_average is None else self._weight_average.in_place():
            yield
