"""What can go wrong around the model; every error here is a `CopsError` and is written to be read by a person."""

from cops.errors import CopsError


class InputError(CopsError):
    """What the user asked for cannot be done as asked: exit code 2."""


class RunError(CopsError):
    """The run cannot go on or cannot be committed; the same command may be given again: exit code 1."""


class ClaimError(RunError):
    """Another run works under this id, or took it over."""


class StoreError(RunError):
    """The store does not answer, or not as it should; images are not blamed for it."""
