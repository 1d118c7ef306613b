"""One exception tree: whatever `cops` refuses, it refuses with a `CopsError`."""


class CopsError(Exception):
    """Root of every error that this package raises on purpose; its text is meant for people."""


class ConfigError(CopsError, ValueError):
    """A constant, a name or a combination of them that no model can be built from."""


class CheckpointError(CopsError):
    """A weight file that is absent, damaged, of another format, or not the one expected."""


class TransferError(CheckpointError):
    """Weights that could not be downloaded, or a checkpoint that could not be written: it may work another time."""


class ImageError(CopsError):
    """A picture that cannot be scored as it was given."""


class ShapeError(CopsError, ValueError):
    """An array whose shape does not fit the operation."""


def is_wrong_use(error: CopsError) -> bool:
    """Whether the same request would fail again: what was given cannot be used."""
    return isinstance(error, ConfigError | CheckpointError) and not isinstance(error, TransferError)
