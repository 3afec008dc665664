"""A Trainer whose evaluation generates: metrics see what the model writes, not its scores."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.trainer_utils import PredictionOutput

from instar.api.trainer import Trainer

# B: rows of a batch, L: their length in tokens


class Seq2SeqTrainer(Trainer):
    """A Trainer that generates in `evaluate` and `predict` where `predict_with_generate` asks for it.

    What is given to those calls goes to `model.generate`, before `generation_max_length` and `generation_num_beams`
    of the arguments, before the model's own generation config. `generation_config` replaces the latter; ValueError
    at construction if it is not valid.
    """

    _stands_for = (("transformers.trainer_seq2seq", "Seq2SeqTrainer"), *Trainer._stands_for)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gen_kwargs: dict[str, Any] = {}
        given = getattr(self.args, "generation_config", None)
        if given is not None:
            self.model.generation_config = self.load_generation_config(given)

    @staticmethod
    def load_generation_config(gen_config_arg: Any) -> Any:
        """A GenerationConfig: a copy of the one given, or that of a file, a folder or a model's name."""
        from transformers import GenerationConfig

        if isinstance(gen_config_arg, GenerationConfig):
            config = deepcopy(gen_config_arg)
        elif isinstance(gen_config_arg, dict):
            config = GenerationConfig.from_dict(gen_config_arg)
        elif Path(gen_config_arg).is_file():
            path = Path(gen_config_arg)
            config = GenerationConfig.from_pretrained(path.parent, path.name)
        else:
            config = GenerationConfig.from_pretrained(gen_config_arg)
        try:
            config.validate(strict=True)
        except ValueError as error:
            raise ValueError(f"generation_config: {error}\n\nFix these issues to train your model.") from None
        return config

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **gen_kwargs: Any,
    ) -> dict[str, float]:
        """As `Trainer.evaluate`; `gen_kwargs` go to `generate`, for each of several datasets alike."""
        with self._generating(gen_kwargs):
            return super().evaluate(eval_dataset, ignore_keys=ignore_keys, metric_key_prefix=metric_key_prefix)

    def predict(
        self,
        test_dataset: Any,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
        **gen_kwargs: Any,
    ) -> PredictionOutput:
        """As `Trainer.predict`; `gen_kwargs` go to `generate`."""
        with self._generating(gen_kwargs):
            return super().predict(test_dataset, ignore_keys=ignore_keys, metric_key_prefix=metric_key_prefix)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: Any,
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **gen_kwargs: Any,
    ) -> tuple[Any, Any, Any]:
        """(loss, generated tokens, labels) of one batch; tokens and labels are padded to the length asked for."""
        if prediction_loss_only or not getattr(self.args, "predict_with_generate", False):
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys=ignore_keys)
        inputs = self._prepare_inputs(inputs)
        labels_BL = inputs.get("labels")
        loss = None
        if labels_BL is not None:
            loss, _, _ = super().prediction_step(model, dict(inputs), prediction_loss_only=True)
        options = self._options(gen_kwargs or self._gen_kwargs)
        with torch.no_grad(), self.compute_loss_context_manager():
            tokens_BL = self.model.generate(**_prompt(inputs), **options)  # type: ignore[operator]
        length = options.get("max_length") or getattr(self.model.generation_config, "max_length", None) or 0
        return loss, self._padded(tokens_BL, length), None if labels_BL is None else self._padded(labels_BL, length)

    @contextmanager
    def _generating(self, gen_kwargs: dict[str, Any]) -> Iterator[None]:
        before = self._gen_kwargs
        self._gen_kwargs = {**before, **gen_kwargs}
        try:
            yield
        finally:
            self._gen_kwargs = before

    def _options(self, gen_kwargs: dict[str, Any]) -> dict[str, Any]:
        options = {name: value for name, value in gen_kwargs.items() if value is not None}
        length, beams = (getattr(self.args, f"generation_{name}", None) for name in ("max_length", "num_beams"))
        if "max_new_tokens" not in options and length is not None:
            options.setdefault("max_length", length)
        if beams is not None:
            options.setdefault("num_beams", beams)
        # processes that hold parts of the weights gather them together, so none may finish before the others
        return {"synced_gpus": self.is_fsdp_enabled and self.args.world_size > 1, **options}

    def _pad_tensors_to_max_len(self, tensor: Tensor, max_length: int) -> Tensor:
        """Rows of tokens, filled up to `max_length` with the padding token."""
        return nn.functional.pad(tensor, (0, max_length - tensor.shape[-1]), value=self._pad_token())

    def _padded(self, tokens_BL: Tensor, length: int) -> Tensor:
        return tokens_BL if tokens_BL.shape[-1] >= length else self._pad_tensors_to_max_len(tokens_BL, length)

    def _pad_token(self) -> int:
        for holder in (self.processing_class, self.model.config):
            for name in ("pad_token_id", "eos_token_id"):
                token = getattr(holder, name, None)
                if isinstance(token, int):
                    return token
        raise ValueError(
            "Pad_token_id must be set in the configuration of the model, in order to pad tensors; "
            "or hand a tokenizer with a padding token to the trainer as processing_class"
        )


def _prompt(inputs: dict[str, Any]) -> dict[str, Any]:
    """The batch without its answers: labels, and decoder inputs that were made from them."""
    dropped = {"labels"}
    labels_BL, decoded_BL = inputs.get("labels"), inputs.get("decoder_input_ids")
    if labels_BL is not None and decoded_BL is not None and labels_BL.shape == decoded_BL.shape:
        dropped |= {"decoder_input_ids", "decoder_attention_mask"}
    return {name: value for name, value in inputs.items() if name not in dropped}
