"""What a Trainer refuses, and what it makes of what it is given."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification
from transformers import TrainingArguments as TheirArguments

from instar import Trainer, TrainerCallback, TrainingArguments
from instar.api import traits
from tests.api.training_parts import Stop, Stream, Tagger, arguments, curve, pad, sentences, trainer, weights


def tiny(**options: Any) -> BertConfig:
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return BertConfig(**{"vocab_size": 12, "max_position_embeddings": 16, **shape, **options})


REFUSED: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "neither": (RuntimeError, "requires either a `model` or `model_init`", {"model": None}),
    "both": (ValueError, "but not both", {"model_init": Tagger}),
    "init of two": (RuntimeError, "should have 0 or 1 argument", {"model": None, "model_init": lambda a, b: a}),
    "init of nothing": (RuntimeError, "should not return None", {"model": None, "model_init": lambda: None}),
    "optimizer with init": (
        RuntimeError,
        "Passing a `model_init` is incompatible",
        {
            "model": None,
            "model_init": lambda trial: Tagger(),
            "optimizers": (torch.optim.SGD(Tagger().parameters(), lr=1), None),
        },
    ),
    "two optimizers": (
        RuntimeError,
        "Passing both `optimizers` and `optimizer_cls_and_kwargs`",
        {
            "optimizers": (torch.optim.SGD(Tagger().parameters(), lr=1), None),
            "optimizer_cls_and_kwargs": (torch.optim.SGD, {}),
        },
    ),
    "no length": (ValueError, "does not implement __len__", {"train_dataset": Stream()}),
    "a collator of old": (
        TypeError,
        "should be a simple callable",
        {"data_collator": type("Old", (), {"collate_batch": len})()},
    ),
    "no eval set": (ValueError, "you didn't pass an `eval_dataset`", {"eval_strategy": "epoch"}),
    "metrics by batch": (
        ValueError,
        "must take a `compute_result`",
        {"batch_eval_metrics": True, "compute_metrics": lambda seen: {}},
    ),
    "a name of a model": (TypeError, "wanted a torch.nn.Module; got the text 'bert-base'", {"model": "bert-base"}),
    "what is no callback": (TypeError, "wanted an object with events such as on_step_end; got 3", {"callbacks": [3]}),
    "best without a metric": (ValueError, "metric_for_best_model", {"save_strategy": "best"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    error, words, options = REFUSED[case]
    own = (
        "model",
        "model_init",
        "optimizers",
        "optimizer_cls_and_kwargs",
        "train_dataset",
        "data_collator",
        "compute_metrics",
        "callbacks",
    )
    given = {"model": Tagger(), "train_dataset": sentences(), "data_collator": pad}
    given |= {name: value for name, value in options.items() if name in own}
    with pytest.raises(error, match=words):
        Trainer(
            args=arguments(tmp_path, **{name: value for name, value in options.items() if name not in own}), **given
        )


def test_a_quantised_model_without_adapters(tmp_path: Path) -> None:
    model = Tagger()
    model.is_quantized = True  # type: ignore[assignment]
    with pytest.raises(ValueError, match="purely quantized"):
        Trainer(model, arguments(tmp_path))


def test_arguments_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"wanted TrainingArguments; got dict; write TrainingArguments\(\*\*args\)"):
        Trainer(Tagger(), {"output_dir": str(tmp_path), "learning_rate": 1.0})


def test_an_optimizer_of_another_model_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = Tagger()
    Trainer(model, arguments(tmp_path), optimizers=(torch.optim.SGD(model.parameters(), lr=1), None))
    assert "no parameter of the model" not in caplog.text
    Trainer(model, arguments(tmp_path), optimizers=(torch.optim.SGD(Tagger().parameters(), lr=1), None))
    assert "the optimizer holds no parameter of the model" in caplog.text


def test_no_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Trainer(Tagger()).args.output_dir == "tmp_trainer"


def test_arguments_of_transformers(tmp_path: Path) -> None:
    theirs = TheirArguments(
        output_dir=str(tmp_path), use_cpu=True, max_steps=3, learning_rate=0.05, per_device_train_batch_size=4,
        logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    tried = Trainer(Tagger(), theirs, train_dataset=sentences(), data_collator=pad)
    tried.train()
    assert isinstance(tried.args, TrainingArguments)
    ours = trainer(tmp_path, max_steps=3)
    ours.train()
    assert curve(tried) == curve(ours)


def test_the_old_name_of_the_processing_class(tmp_path: Path) -> None:
    with pytest.warns(FutureWarning, match="write processing_class"):
        tried = Trainer(Tagger(), arguments(tmp_path), tokenizer="mine")
    assert tried.processing_class == "mine"
    with pytest.warns(FutureWarning, match="is now Trainer.processing_class"):
        assert tried.tokenizer == "mine"


def test_names_of_labels(tmp_path: Path) -> None:
    class Answers(nn.Module):
        def forward(self, input_ids: Any, start_positions: Any = None, end_positions: Any = None) -> None: ...

    class ForQuestionAnswering(Answers): ...

    class Clip(nn.Module):
        def forward(self, pixels: Any, return_loss: bool = True) -> None: ...  # noqa: FBT001

    assert traits.label_names_of(Answers()) == []
    assert traits.label_names_of(ForQuestionAnswering()) == ["start_positions", "end_positions"]
    assert trainer(tmp_path).label_names == ["labels"]
    assert trainer(tmp_path, label_names=["mine"]).label_names == ["mine"]
    assert [traits.can_return_loss(model) for model in (Tagger(), Clip())] == [False, True]


def test_whether_a_loss_is_told_its_targets() -> None:
    assert not traits.takes_loss_kwargs(Tagger())
    assert traits.takes_loss_kwargs(BertForSequenceClassification(tiny()))
    model = Tagger()
    model.accepts_loss_kwargs = True  # type: ignore[assignment]
    assert traits.takes_loss_kwargs(model)


def test_smoothing_and_several_labels(tmp_path: Path) -> None:
    model = BertForSequenceClassification(tiny(problem_type="multi_label_classification"))
    with pytest.warns(UserWarning, match="Label smoothing is not compatible with multi-label") as told:
        assert Trainer(model, arguments(tmp_path, label_smoothing_factor=0.1)).label_smoother is None
    assert len(told) == 1


# ---- what is done to a model ----


def samples() -> list[dict[str, Any]]:
    return [{"input_ids": [1, 2, 3, 4], "labels": place % 2} for place in range(16)]


def test_cache_checkpointing_and_noise(tmp_path: Path) -> None:
    model = BertForSequenceClassification(tiny(use_cache=True, is_decoder=True))
    seen = []

    class Looks(TrainerCallback):
        def on_step_end(self, *_: Any, model: Any = None, **__: Any) -> None:
            seen.append((model.is_activation_checkpointing, model.get_input_embeddings().neftune_noise_alpha))

    tried = Trainer(
        model, arguments(tmp_path, activation_checkpointing=True, neftune_noise_alpha=5.0, max_steps=2),
        train_dataset=samples(), callbacks=[Looks()],
    )  # fmt: skip
    assert model.config.use_cache is False
    tried.train()
    assert seen == [(True, 5.0), (True, 5.0)]
    assert not hasattr(model.get_input_embeddings(), "neftune_noise_alpha")


def test_noise_changes_the_loss_and_an_error_takes_the_hook_away(tmp_path: Path) -> None:
    class Raises(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            raise KeyError

    curves = []
    for noise in (None, 5.0):
        torch.manual_seed(1)
        tried = Trainer(
            BertForSequenceClassification(tiny()),
            arguments(tmp_path, neftune_noise_alpha=noise, max_steps=2, fast_path=False),
            train_dataset=samples(),
        )  # fmt: skip
        tried.train()
        curves.append(curve(tried))
    assert curves[0] != curves[1]
    tried.add_callback(Raises())
    with pytest.raises(KeyError):
        tried.train()
    assert not tried.model.get_input_embeddings()._forward_hooks


def test_operations_are_counted_as_by_the_model(tmp_path: Path) -> None:
    model = BertForSequenceClassification(tiny())
    tried = Trainer(model, arguments(tmp_path, max_steps=3), train_dataset=samples())
    output = tried.train()
    batch = {"input_ids": torch.ones(4, 4, dtype=torch.long)}
    wanted = 6 * 16 * model.num_parameters(exclude_embeddings=True)
    assert tried.floating_point_ops(batch) == wanted
    assert output.metrics["total_flos"] == tried.state.total_flos == 3 * wanted


def test_own_operations(tmp_path: Path) -> None:
    class Own(Trainer):
        def floating_point_ops(self, inputs: Any) -> int:
            return 7

    tried = trainer(tmp_path, cls=Own, max_steps=3)
    assert tried.train().metrics["total_flos"] == 21


def test_a_batch_size_that_was_found_is_kept_over_a_restart(tmp_path: Path) -> None:
    class Narrow(Tagger):
        largest = 0

        def forward(self, input_ids: Tensor, labels: Any = None) -> dict[str, Tensor]:
            if len(input_ids) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            self.largest = max(self.largest, len(input_ids))
            return super().forward(input_ids, labels)

    options: dict[str, Any] = {"auto_find_batch_size": True, "per_device_train_batch_size": 8, "num_train_epochs": 1}
    trainer(tmp_path, model=Narrow(), callbacks=[Stop(2)], **options).train()
    plain = trainer(tmp_path, model=Tagger(), **options)
    plain.train(resume_from_checkpoint=True)
    assert plain._train_batch_size == 2
    assert plain.state.global_step == 6


# ---- Accelerate ----


def test_accelerate_comes_when_it_is_touched(tmp_path: Path) -> None:
    tried = trainer(tmp_path)
    assert tried._accelerator is None
    accelerator = tried.accelerator
    assert accelerator is tried.accelerator
    accelerator.wait_for_everyone()
    assert accelerator.is_main_process
    assert accelerator.num_processes == 1
    assert accelerator.device == tried.args.device
    assert accelerator.unwrap_model(tried.model) is tried.model
    assert tried.is_world_process_zero()
    assert tried.is_local_process_zero()


def test_a_subclass_may_make_its_own_accelerator(tmp_path: Path) -> None:
    class Own(Trainer):
        def create_accelerator_and_postprocess(self) -> None:
            self.accelerator = "mine"

    assert trainer(tmp_path, cls=Own).accelerator == "mine"


def test_an_override_put_on_the_object(tmp_path: Path) -> None:
    tried = trainer(tmp_path, max_steps=1)
    called = []

    def compute_loss(model: Any, inputs: Any) -> Tensor:
        called.append(1)
        return model(**inputs)["loss"]

    tried.compute_loss = compute_loss  # type: ignore[method-assign]
    before = weights(tried)
    tried.train()
    assert called == [1]
    assert not torch.equal(before, weights(tried))
