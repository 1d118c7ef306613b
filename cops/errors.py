"""One exception tree: whatever `cops` refuses, it refuses with a `CopsError`."""


class CopsError(Exception):
    """Root of every error that this package raises on purpose; its text is meant for people."""


class ConfigError(CopsError, ValueError):
    """A constant, a name or a combination of them that no model can be built from."""


class CheckpointError(CopsError):
    """A weight file that is absent, damaged, of another format, or not the one expected."""


class TransferError(CheckpointError):
    """Weights that could not be downloaded, read or written for a reason that may pass: no network, a full disk."""


class ImageError(CopsError):
    """A picture that cannot be scored as it was given."""


class ShapeError(CopsError, ValueError):
    """An array whose shape does not fit the operation."""


def unreadable(message: str, exc: Exception) -> CheckpointError:
    """The error of a weight file that could not be read, by what kept it from being read."""
    of_the_file = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
    passing = isinstance(exc, MemoryError | OSError) and not isinstance(exc, of_the_file)
    return TransferError(message) if passing else CheckpointError(message)


def is_wrong_use(error: CopsError) -> bool:
    """Whether the same request would fail again: what was given cannot be used."""
    return isinstance(error, ConfigError | CheckpointError) and not isinstance(error, TransferError)
