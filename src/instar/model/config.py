"""Where a network comes from: a folder, or a Transformers architecture by name."""

from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from instar.config import Config, KeyFaults, PathText
from instar.model.adapter import Lora


class FromFolder(Config):
    """A saved model (config.json and safetensors), for example a checkpoint of another run."""

    path: PathText = Field(alias="from")
    """Folder to load; of a checkpoint that keeps a moving average of its weights, the average."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Rate of every dropout of the model; default: as saved."""
    max_length: int | None = Field(default=None, ge=1, le=1 << 22, exclude_if=lambda value: value is None)
    """Longest document in tokens, specials included, where positions are not learned (rotary); default: as saved."""
    resize_embeddings: Literal["by_token"] | None = None
    """Take another tokenizer than the folder's: rows are kept by token string, the others begin anew; null: refuse."""
    adapter: Lora | None = Field(default=None, exclude_if=lambda value: value is None)
    """Train an adapter beside the frozen model, like {kind: lora, rank: 8}; checkpoints hold the adapter alone."""
    with_optimizer: bool = False
    """A new phase of the same task: the optimizer's moments come along; counters, schedule and data begin anew."""

    @model_validator(mode="after")
    def _adapts_as_saved(self) -> "FromFolder":
        if self.adapter is not None and (self.with_optimizer or self.resize_embeddings):
            raise KeyFaults(
                ["model.adapter: stands beside a model as it was saved; leave with_optimizer and resize_embeddings out"]
            )
        return self


class FromConfig(Config):
    """A fresh model of any Transformers architecture; further keys are that architecture's own fields."""

    model_config = ConfigDict(**{**Config.model_config, "extra": "allow"})

    config: str
    """Architecture: bert, roberta, distilbert, modernbert, electra, albert, gpt2, llama, qwen2, mistral, ..."""
    num_layers: int | None = Field(default=None, ge=1)
    """Layers; default 4."""
    hidden_size: int | None = Field(default=None, ge=1)
    """Width; default 256."""
    num_heads: int | None = Field(default=None, ge=1)
    """Attention heads; default one for every 64 of width."""
    intermediate_size: int | None = Field(default=None, ge=1)
    """Width of the feed-forward layers; default 4 x hidden_size."""
    max_length: int | None = Field(default=None, ge=1)
    """Longest document in tokens, specials included; default 512."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Rate of every dropout of the model; default: the architecture's own."""

    @model_validator(mode="after")
    def _known(self) -> "FromConfig":
        from instar.model.architecture import problems_of

        problems = problems_of(self)
        if problems:
            raise KeyFaults(problems)
        return self

    @property
    def fields(self) -> dict[str, Any]:
        """The architecture's own fields."""
        return dict(self.__pydantic_extra__ or {})


def did_you_mean(word: str, known: list[str]) -> str:
    """ "; did you mean 'x'?", or nothing."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "folder" if "from" in value or "path" in value else "config"
    return "folder" if isinstance(value, FromFolder) else "config"


ModelConfig = Annotated[
    Annotated[FromFolder, Tag("folder")] | Annotated[FromConfig, Tag("config")],
    Discriminator(_kind),
]
"""`{from: FOLDER}` or `{config: bert, num_layers: 4, ...}`."""
