"""WordPiece, as BERT has it."""

from typing import Literal

from instar.data.tokenizer.base import Tokenizer
from instar.data.tokenizer.codec import trained_specials
from instar.data.tokenizer.trained import Texts, Trained, train


class WordPiece(Trained):
    """Words and pieces of words (##ing), split at blanks and punctuation."""

    kind: Literal["wordpiece"] = "wordpiece"
    lowercase: bool = True
    """Whether case and accents are dropped."""

    def build(self, texts: Texts) -> Tokenizer:
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

        backend = Backend(models.WordPiece(unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=self.lowercase)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        tokens, _ = trained_specials(self.end_of_text)
        trainer = trainers.WordPieceTrainer(
            vocab_size=self.vocab_size, special_tokens=tokens, limit_alphabet=1000, show_progress=False
        )
        return train(self, backend, trainer, texts)
