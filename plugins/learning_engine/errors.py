"""The package's exceptions. Each message says what was expected, what was found and what to do.

`retryable` tells the Airflow tasks whether a retry can succeed, possibly on another worker.
"""


class LearningEngineError(Exception):
    """Base of every error that this package raises on purpose."""

    retryable = False


class ConfigError(LearningEngineError):
    """A setting, environment variable or run parameter is out of bounds."""


class FeedbackError(LearningEngineError):
    """The feedback table or file does not have the expected columns or format."""


class FeedbackUnavailable(FeedbackError):
    """The feedback database is temporarily unavailable."""

    retryable = True


class DatasetError(LearningEngineError):
    """The feedback cannot be turned into training examples with this base model's tokenizer."""


class ModelError(LearningEngineError):
    """The base model or an adapter cannot be loaded, or its shape differs from the configuration."""


class FisherMismatch(LearningEngineError):
    """Fisher information has a different kind, base model or LoRA shape than the run needs."""


class TrainingError(LearningEngineError):
    """Training cannot continue: the loss is not finite, or weights that must be frozen are trainable."""


class OutOfMemory(TrainingError):
    """Even a single row does not fit into the device's memory."""

    # Other processes on the device may have ended by the time of the retry.
    retryable = True


class NoRoom(LearningEngineError):
    """The worker's disk has too little free space for what the step will write."""

    # The retry may run on another worker.
    retryable = True


class StoreError(LearningEngineError):
    """The object store failed; nothing was published."""

    retryable = True


class IntegrityError(LearningEngineError):
    """An object's bytes do not match its recorded digest, or are not a valid record of the expected kind."""


class RegistryError(LearningEngineError):
    """A version does not exist, is revoked, or cannot be published as requested."""


class Overtaken(RegistryError):
    """Another version has been deployed since this decision was made."""


class ParentMoved(RegistryError):
    """Another run published the correct parent of this window while this run was training."""


class PreflightError(LearningEngineError):
    """An adapter failed the checks that it must pass before a model server sees it."""


class ResultMissing(LearningEngineError):
    """An earlier task of the run has no result, for example because a person marked it as a success."""


class ServingError(LearningEngineError):
    """A model server is down, rejects the adapter or answers unexpectedly."""

    retryable = True


class ProofError(ServingError):
    """A model server answers, but not with this version's weights."""

    retryable = False
