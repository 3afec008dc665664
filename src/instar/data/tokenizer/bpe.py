"""Byte-level BPE, as GPT-2 has it."""

from typing import Literal

from pydantic import Field

from instar.data.tokenizer.base import Tokenizer
from instar.data.tokenizer.codec import trained_specials
from instar.data.tokenizer.trained import Texts, Trained, train


class Bpe(Trained):
    """Pairs of bytes that come often; every text can be written, so nothing is unknown."""

    kind: Literal["bpe"] = "bpe"
    vocab_size: int = Field(default=8192, ge=264, le=1 << 20)
    """Words at most, the 256 bytes and the special tokens included."""

    def build(self, texts: Texts) -> Tokenizer:
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers, trainers

        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        tokens, _ = trained_specials(self.end_of_text)
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            special_tokens=tokens,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        return train(self, backend, trainer, texts)
