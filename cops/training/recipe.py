"""How CoPS is trained: the published recipes, by the auxiliary dataset."""

from __future__ import annotations

from dataclasses import dataclass, field

from cops.config import profile_named
from cops.errors import ConfigError
from cops.training.losses import LossWeights


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what training gives, but for model and data.

    Raises:  ConfigError: a number is out of range, or there is no such profile.
    """

    profile: str
    """The k, α and β that go with the weights."""
    epochs: int
    batch_size: int = 8
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)
    """Of Adam."""
    seed: int = 0
    weights: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        profile_named(self.profile)
        for name in ("epochs", "batch_size", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}")


RECIPES = {
    "visa": Recipe(profile="published-visa", epochs=10, weights=LossWeights(reconstruction=0.0)),
    "mvtec-ad": Recipe(profile="published-mvtec", epochs=5),
}
