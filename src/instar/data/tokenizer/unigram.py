"""Unigram, as SentencePiece has it."""

from typing import Literal

from instar.data.tokenizer.base import Tokenizer
from instar.data.tokenizer.codec import trained_specials
from instar.data.tokenizer.trained import Texts, Trained, train


class Unigram(Trained):
    """The likeliest cut into pieces of a learned vocabulary; blanks are part of the pieces.

    The library learns it in an order of its own: equal texts give nearly, not exactly, equal pieces.
    A run keeps the one it learnt.
    """

    kind: Literal["unigram"] = "unigram"

    def build(self, texts: Texts) -> Tokenizer:
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers, trainers

        backend = Backend(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        tokens, _ = trained_specials(self.end_of_text)
        trainer = trainers.UnigramTrainer(
            vocab_size=self.vocab_size, special_tokens=tokens, unk_token="[UNK]", show_progress=False
        )
        return train(self, backend, trainer, texts)
