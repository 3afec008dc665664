"""How a text is continued: the options of `generate`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from instar.config import Config

_USUAL = 64


class Decoding(Config):
    """How tokens are chosen, and when a text ends."""

    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens after the prompt, at most; null: 64, or half of the model's context where that is less."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0: always the likeliest token; 1: drawn with the network's probabilities; above: more evenly."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """Draw from this many likeliest tokens; null: from all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw from the likeliest tokens that have this much probability together."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Draw from tokens with at least this share of the likeliest one's probability."""
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    """Divides the score of tokens that were there before (Keskar et al. 2019); padding never counts."""
    num_beams: Annotated[int, Field(ge=1)] = 1
    """Continuations that are followed at once; more than 1: the one with the best mean log-probability wins."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end a row; they are not part of what is returned."""
    stop_ids: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Tokens that end a row; null: the tokenizer's end of text."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Names the draws: row n of the input draws by (seed, n), whatever it is batched with."""
    log_probabilities: bool = False
    """Give the log-probability (nats, before temperature and cuts) of each token."""
    too_long: Literal["cut", "error"] = "cut"
    """A prompt that leaves no room for the new tokens: cut its beginning off, or refuse it."""
    batch_tokens: Annotated[int, Field(ge=1)] = 8192
    """Tokens of a batch at most, padding and new ones counted; a longer row comes alone."""

    def new_tokens(self, context: int | None) -> int:
        """Tokens after the prompt, at most, with a model of this context."""
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        return _USUAL if context is None else max(1, min(_USUAL, context // 2))

    @model_validator(mode="after")
    def _one_way(self) -> "Decoding":
        if self.num_beams > 1 and self.temperature > 0:
            raise ValueError("beams are followed without drawing; set temperature: 0, or num_beams: 1")
        return self
