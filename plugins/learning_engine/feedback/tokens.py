"""Count the tokens of texts with only a tokenizer.json, without torch or transformers."""

from pathlib import Path

from learning_engine.errors import DatasetError

# Texts are collected up to this size per call, since the tokenizer works on a batch in parallel.
BATCH_CHARACTERS = 4 * 1024**2


class TokenCounter:
    """Counts tokens without template and special tokens. Raises DatasetError if the file is not readable."""

    def __init__(self, tokenizer_file: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self.tokenizer = Tokenizer.from_file(str(tokenizer_file))
        except Exception as error:  # the library raises no narrower class
            raise DatasetError(
                f"Expected a readable tokenizer.json at {tokenizer_file}, found {type(error).__name__}: "
                "pass the base model's file, or none."
            ) from error
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.texts: list[str] = []
        self.characters = 0
        self.counted = 0

    def add(self, *texts: str) -> None:
        self.texts += texts
        self.characters += sum(map(len, texts))
        if self.characters >= BATCH_CHARACTERS:
            self._count()

    @property
    def total(self) -> int:
        self._count()
        return self.counted

    def _count(self) -> None:
        encodings = self.tokenizer.encode_batch_fast(self.texts, add_special_tokens=False)
        self.counted += sum(len(encoding) for encoding in encodings)
        self.texts, self.characters = [], 0
