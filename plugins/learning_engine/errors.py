"""The ways in which a step can fail; each message says what was expected, what was found and what to do.

`retryable` tells the Airflow glue whether trying again on another worker can help.
"""


class LearningEngineError(Exception):
    """Base of every error that this package raises on purpose."""

    retryable = False


class ConfigError(LearningEngineError):
    """A setting, environment variable or run parameter is out of bounds."""


class FeedbackError(LearningEngineError):
    """The feedback table or file does not have the expected columns or shape."""


class FeedbackUnavailable(FeedbackError):
    """The feedback database cannot be reached just now."""

    retryable = True


class DatasetError(LearningEngineError):
    """The feedback cannot be turned into training examples with this base model's tokenizer."""


class ModelError(LearningEngineError):
    """The base model or an adapter cannot be loaded, or has another shape than configured."""


class FisherMismatch(LearningEngineError):
    """Fisher information of one kind, base model or LoRA shape was offered where another is needed."""


class TrainingError(LearningEngineError):
    """Training cannot go on: a loss that is not finite, or weights trainable that must not be."""


class OutOfMemory(TrainingError):
    """Not even one row at a time fits into the device's memory."""

    # What else runs on the device may have ended by then.
    retryable = True


class NoRoom(LearningEngineError):
    """A worker's disk has too little room for what a step is going to write."""

    # The next try may come to another worker.
    retryable = True


class StoreError(LearningEngineError):
    """The object store failed; nothing was published."""

    retryable = True


class IntegrityError(LearningEngineError):
    """An object's bytes differ from the digest that its record names, or are not the record that they should be."""


class RegistryError(LearningEngineError):
    """A version that does not exist, is revoked, or cannot be published as asked."""


class Overtaken(RegistryError):
    """Another version has gone live since this was decided."""


class ParentMoved(RegistryError):
    """Another run published the right parent of this window while this one was training."""


class PreflightError(LearningEngineError):
    """An adapter that the model server must never see."""


class ResultMissing(LearningEngineError):
    """An earlier task of the run has left no result, as when a person marked it as a success before it had one."""


class ServingError(LearningEngineError):
    """A model server is down, refuses the adapter or does not answer as it should."""

    retryable = True


class ProofError(ServingError):
    """A model server answers, but not with the weights of this version."""

    retryable = False
