"""Every constant of the model, in one frozen dataclass that travels in the checkpoint's header."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cops.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The three constants that go with a set of published weights and are not in their file."""

    k: int
    alpha: float
    beta: float


PROFILES = {
    # The paper's text gives α and β but no k. 5, because its β of 0.9 is the one of the weights trained on
    # VisA, and those were trained with k = 5.
    "paper": Profile(k=5, alpha=0.3, beta=0.9),
    "published-visa": Profile(k=5, alpha=0.26, beta=0.9),
    "published-mvtec": Profile(k=3, alpha=0.35, beta=1.0),
}


@dataclass(frozen=True, kw_only=True)
class CopsConfig:
    """What a CoPS model is made of, apart from its weights.

    Raises:  ConfigError: a constant is of the wrong type or out of range.
    """

    backbone: str | dict[str, Any] = "ViT-L-14-336-quickgelu"
    """An open_clip model name, or such a model's config itself."""
    pretrained: str | None = None
    """open_clip's tag of the backbone's weights, such as `openai`; None where they have no name."""
    profile: str = "custom"
    """Where k, α and β come from. A remark: it changes no score."""
    image_size: int = 518
    """Side S of the square the model sees, px."""
    k: int = 5
    """Kernel of the spatial averaging, patches; odd."""
    alpha: float = 0.3
    """Share of the distance to the normal prototypes."""
    beta: float = 0.9
    """Share of the classification term in the image score."""
    temperature: float = 0.07
    sigma_px: float = 4.0
    """Smoothing of the anomaly map, px of the S×S map."""
    context_tokens: int = 6
    state_tokens: int = 6
    class_tokens: int = 2
    deep_tokens: int = 4
    """Tokens that each deep prompt overwrites, from position 1 on."""
    deep_layers: int = 8
    """Text layers, from the second on, that have a deep prompt."""
    heads: int = 12
    """Attention heads of the prototype extractor."""
    samples: int = 10
    """Class tokens drawn, R; the text features are their mean."""
    noise_seed: int = 0
    """The seed that the stored noise bank was drawn from. A remark: the bank itself counts."""
    swap_prototypes: bool = True
    """The normal prompt takes the anomaly prototypes and the other way round, as the published weights were trained."""
    sot_id: int = 49406
    stop_id: int = 269
    eot_id: int = 49407
    """Rows of the token table: start of text, ".", end of text. The defaults are those of CLIP's tokenizer."""
    vocabulary: tuple[int, ...] = ()
    """CLIP's number of the token in each row of the token table, where it holds but some; empty: all, in CLIP's order.
    Texts that a person writes are read by it. A remark: the learned prompts change no score by it."""
    pixel_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    pixel_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """Of CLIP, for pixels in [0, 1], RGB."""

    def __post_init__(self) -> None:
        self._check_types()
        self._check_ranges()

    def _check_types(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and (isinstance(value, bool) or not isinstance(value, int)):
                raise ConfigError(f"{field.name} must be a whole number, not {value!r}")
            if field.type is float and not _is_number(value):
                raise ConfigError(f"{field.name} must be a finite number, not {value!r}")
            if field.type is float:
                object.__setattr__(self, field.name, float(value))
            if field.type is bool and not isinstance(value, bool):
                raise ConfigError(f"{field.name} must be true or false, not {value!r}")
            if field.name.startswith("pixel_"):
                object.__setattr__(self, field.name, _triple(field.name, value))
        object.__setattr__(self, "vocabulary", _distinct_tokens(self.vocabulary))
        if not isinstance(self.backbone, str | dict):
            raise ConfigError(f"backbone must be an open_clip model name or its config, not {type(self.backbone)}")

    def _check_ranges(self) -> None:
        positive = ("image_size", "context_tokens", "state_tokens", "class_tokens", "deep_tokens", "heads", "samples")
        for name in (*positive, "temperature"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("deep_layers", "sigma_px", "sot_id", "stop_id", "eot_id"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be 0 or more, not {getattr(self, name)}")
        for name in ("alpha", "beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is a share, from 0 to 1, not {getattr(self, name)}")
        if self.k < 1 or self.k % 2 == 0:
            raise ConfigError(f"k must be odd, so that the average is centred on its patch, not {self.k}")
        if self.deep_tokens > self.context_tokens:
            raise ConfigError(f"{self.deep_tokens} deep tokens do not fit in a context of {self.context_tokens}")
        if min(self.pixel_std) <= 0:
            raise ConfigError(f"pixel_std must be above 0, not {self.pixel_std}")

    @property
    def learned_tokens(self) -> int:
        """Context, state and class tokens: 14 as published."""
        return self.context_tokens + self.state_tokens + self.class_tokens

    @property
    def prompt_length(self) -> int:
        """The learned tokens with start, full stop and end: 17 as published."""
        return self.learned_tokens + 3

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "CopsConfig":
        """The config that `to_json` wrote.

        Raises:  ConfigError: it is not JSON, or has keys that this version does not know.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as exc:
            raise ConfigError(f"the config is not JSON: {exc}") from exc
        if not isinstance(values, Mapping):
            raise ConfigError(f"the config must be a JSON object, not {type(values).__name__}")
        check_names(values)
        return cls(**values)


def profile_named(name: str) -> Profile:
    """The constants of a named profile.

    Raises:  ConfigError: there is no such profile.
    """
    if name not in PROFILES:
        raise ConfigError(f"unknown profile {name!r}; there are {', '.join(PROFILES)}")
    return PROFILES[name]


def check_names(values: Mapping[str, object]) -> None:
    """Refuse constants that the config does not have."""
    known = {field.name for field in fields(CopsConfig)}
    if unknown := sorted(set(values) - known):
        raise ConfigError(f"unknown constants {', '.join(unknown)}; there are {', '.join(sorted(known))}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _distinct_tokens(value: object) -> tuple[int, ...]:
    fits = isinstance(value, list | tuple) and all(type(token) is int and token >= 0 for token in value)
    if not fits or len(set(value)) < len(value):  # type: ignore[call-overload, arg-type]
        raise ConfigError(f"vocabulary must be distinct token numbers, not {str(value)[:200]}")
    return tuple(value)  # type: ignore[arg-type]


def _triple(name: str, value: object) -> tuple[float, float, float]:
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(map(_is_number, value)):
        raise ConfigError(f"{name} must be three finite numbers, not {value!r}")
    red, green, blue = (float(number) for number in value)
    return red, green, blue
