"""One exception tree: whatever `cops` refuses, it refuses with a `CopsError`."""


class CopsError(Exception):
    """Root of every error that this package raises on purpose; its text is meant for people."""


class ConfigError(CopsError, ValueError):
    """A constant, a name or a combination of them that no model can be built from."""


class CheckpointError(CopsError):
    """A weight file that is absent, damaged, of another format, or not the one expected."""


class ImageError(CopsError):
    """A picture that cannot be scored as it was given."""


class ShapeError(CopsError, ValueError):
    """An array whose shape does not fit the operation."""
