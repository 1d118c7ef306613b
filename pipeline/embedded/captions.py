"""What the captions of training pictures say, and with it the words that the packaged model knows."""

from __future__ import annotations

from numpy.random import Generator
from open_clip.tokenizer import SimpleTokenizer

NORMAL = ("normal", "good", "clean", "perfect", "flawless", "undamaged", "intact")
ANOMALOUS = ("damaged", "defective", "broken", "anomalous")
FLAWS = ("defect", "flaw", "damage")
STATES = {
    "scratched": "scratch",
    "cracked": "crack",
    "stained": "stain",
    "discoloured": "stain",
    "spotted": "spot",
    "dirty": "dirt",
    "dented": "dent",
    "pierced": "hole",
    "chipped": "missing part",
    "contaminated": "foreign blob",
    "bent": "bent part",
    "torn": "tear",
    "worn": "worn spot",
    "misplaced": "missing part",
}
"""Each kind of defect as an adjective, and as what a picture shows."""
NOUNS = (
    *(
        "plastic",
        "paper",
        "paint",
        "stone",
        "plaster",
        "concrete",
        "wood",
        "metal",
        "steel",
        "fabric",
        "grid",
        "pattern",
    ),
    *("leather", "gravel", "foam", "granite", "carpet", "texture", "felt", "disc", "plate", "piece", "ring", "rod"),
    *("bracket", "nut", "bolt", "tablet", "cap", "connector"),
)
ANYTHING = ("object", "surface", "product", "part", "item", "material")
OTHER_WORDS = ("the", "of", "and", ",", ".")


def normal_texts() -> list[str]:
    """What dense training calls normal."""
    return [f"a photo of a {word} {noun}" for word in NORMAL for noun in ANYTHING[:3]]


def anomalous_texts() -> list[str]:
    """What dense training calls anomalous."""
    adjectives = [f"a photo of a {word} {noun}" for word in ANOMALOUS for noun in ANYTHING[:3]]
    return adjectives + [f"a photo of a {noun} with a {flaw}" for flaw in FLAWS for noun in ANYTHING[:2]]


def state_texts() -> list[str]:
    """One text for each kind of defect, in the order of `STATES`."""
    return [f"a photo of a {state} object" for state in STATES]


def caption(noun: str, state: str | None, rng: Generator) -> str:
    """A caption of a picture; of one without a defect where the state is None."""
    if rng.uniform() < 0.35:
        noun = str(rng.choice(ANYTHING))
    choice = rng.uniform()
    if state is None:
        if choice < 0.75:
            return f"a photo of a {rng.choice(NORMAL)} {noun}"
        return f"a photo of a {noun} without a {rng.choice((*FLAWS, *STATES.values()))}"
    if choice < 0.3:
        return f"a photo of a {rng.choice(ANOMALOUS)} {noun}"
    if choice < 0.4:
        return f"a photo of a {noun} with a {rng.choice(FLAWS)}"
    return f"a photo of a {state} {noun}" if choice < 0.8 else f"a photo of a {noun} with a {STATES[state]}"


def vocabulary() -> tuple[int, ...]:
    """CLIP's numbers of the tokens of all captions, start and end of text at its ends."""
    tokens = SimpleTokenizer()
    texts = [*normal_texts(), *anomalous_texts(), *state_texts(), *NOUNS, *ANYTHING, *OTHER_WORDS, "without"]
    used = {token for text in (*texts, *STATES.values()) for token in tokens.encode(text)}
    return (tokens.sot_token_id, *sorted(used), tokens.eot_token_id)
