"""Every error a user can cause, as one tree: the message says what was wrong, where, and what to do."""


class SpeechLLMError(Exception):
    """Root of all errors this package raises on purpose; the command line prints its message in one line."""


class AudioError(SpeechLLMError):
    """A recording cannot be read, holds no usable samples, or passes a limit."""


class AudioLimitError(AudioError):
    """A recording is longer or larger than the limits allow."""


class TaskError(SpeechLLMError):
    """A task, prompt or slot is unknown, missing or malformed."""


class ConsentError(TaskError):
    """A voice was to be cloned without the stated consent of whoever it belongs to."""


class WeightsError(SpeechLLMError):
    """Weights cannot be found, fetched or trusted."""


class DataError(SpeechLLMError):
    """A manifest, corpus or recipe is missing a field or malformed."""


class TrainingError(SpeechLLMError):
    """A run cannot start, continue or be saved."""
