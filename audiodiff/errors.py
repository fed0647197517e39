"""The errors that the package raises: each message names the value, the rule and the remedy."""


class AudiodiffError(Exception):
    """Base of every error that a caller of this package may want to catch."""


class ParameterError(AudiodiffError, ValueError):
    """An argument, or a combination of arguments, that cannot work."""


class MelError(AudiodiffError, ValueError):
    """A mel spectrogram that breaks the contract of its dialect."""


class AudioFileError(AudiodiffError, OSError):
    """A file that cannot be read as audio, or a place that cannot be written to."""


class DataError(AudiodiffError, ValueError):
    """A data set that cannot be used as it is: empty, unreadable, silent or malformed."""


class CheckpointError(AudiodiffError, ValueError):
    """A checkpoint that is missing, unsafe, damaged or made for something else."""


class PackageError(AudiodiffError, ImportError):
    """A package that is missing or cannot be loaded."""


class TrainingError(AudiodiffError, RuntimeError):
    """Training that cannot go on: a loss that is not finite, a resume that cannot be exact."""


def check_whole(value: object, *, name: str, least: int) -> None:
    """Refuse what is not a whole number from `least` on.

    Raises:
        ParameterError: naming it.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ParameterError(f"{name}={value} must be a whole number, at least {least}")


def innermost(error: BaseException) -> BaseException:
    """Return the first error of a chain of causes."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
