"""Seeded damage: input n of a seed is one whole file, one plan of what is done to it, always the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import fields
from corpus import Seed, seeds

SHARES = {  # of the inputs, in percent
    "image": 82, "large": 1, "tar": 5, "shard": 3, "manifest": 5, "checkpoint": 1, "thresholds": 1, "record": 2,
}  # fmt: skip
_SPLICED = ("image",) * 8 + ("tar", "shard", "manifest", "record")  # where the second half of a splice comes from
_PLANS = {"whole": 2, "junk behind": 3, "cut": 12, "text": 3, "too large": 6, "bit": 12, "damage": 62}
_STEPS = (1, 1, 1, 2, 3, 5)  # of damage, as often as not a single one
_TEXTS = (
    b"<!DOCTYPE html>\n<html><head><title>503</title></head><body>Service Unavailable</body></html>\n",
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    b"Not found\n", b"BM is what this text begins with\n", b"{\"error\": 404}", b"\n\n\t  <svg xmlns='http://www.w3.org/'/>",
)  # fmt: skip
_TOKENS = (
    b"null", b"NaN", b"-1", b"1e999", b"99999999999999999999", b'"', b"'", b"{", b"}", b"[" * 3000, b",", b"\n", b"\r",
    b"\0", b"\xff\xfe", b"\\ud800", b"\\u0000", b"../", b"::", b"://", b"true", b"{}", b"[]", b"%s", b"#", b"?",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One input, and what it was made of."""

    seed: Seed
    plan: str
    data: bytes
    steps: tuple[str, ...] = ()


def mutant(seed: int, number: int) -> Mutant:
    """Input `number` of a seed."""
    rng = random.Random(f"{seed}:{number}")
    kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
    chosen = rng.choice(seeds(kind))
    plan = rng.choices(list(_PLANS), list(_PLANS.values()))[0]
    if plan in ("text", "too large", "junk behind") and chosen.target != "image":
        plan = "damage"
    if plan == "damage":
        return _damaged(chosen, rng)
    return Mutant(chosen, plan, _BY_PLAN[plan](chosen, rng))


def _damaged(chosen: Seed, rng: random.Random) -> Mutant:
    data, steps = chosen.data, []
    own = fields.DAMAGES.get(chosen.form, ())
    for _ in range(rng.choice(_STEPS)):
        step = rng.choice(own) if own and rng.random() < 0.5 else rng.choice(_DAMAGES)
        steps.append(step.__name__.strip("_"))
        data = step(data, rng)
    return Mutant(chosen, "damage", data, tuple(steps))


def _place(data: bytes, rng: random.Random) -> int:
    """Anywhere; as often as not in the first 128 bytes, where headers are."""
    most = len(data) - 1
    return rng.randint(0, min(127, most) if rng.random() < 0.5 else most) if most >= 0 else 0


def _flip(data: bytes, rng: random.Random, most: int = 8) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.randint(1, most) if data else 0):
        damaged[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    new = rng.randbytes(rng.randint(1, 16))
    return data[:at] + new + data[at + len(new) :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.choice([rng.randbytes(rng.randint(1, 40)), bytes(rng.randint(1, 600))]) + data[at:]


def _delete(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.randint(1, 64) :]


def _duplicate(data: bytes, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.randint(1, 600)
    return data[: at + size] + data[at : at + size] * rng.choice([1, 1, 2, 50]) + data[at + size :]


def _blank(data: bytes, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.randint(1, 200)
    return (data[:at] + rng.choice([b"\0", b"\xff"]) * size + data[at + size :])[: len(data)]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data)) if data else 0]


def _splice(data: bytes, rng: random.Random) -> bytes:
    """The first part of this file and the last of another."""
    other = rng.choice(seeds(rng.choice(_SPLICED))).data
    return data[: _place(data, rng)] + other[rng.randrange(len(other)) :]


def _number(data: bytes, rng: random.Random) -> bytes:
    """Some number, of 1 to 8 bytes and either order, becomes an extreme one, or nearly the file's length."""
    size = rng.choice([1, 2, 2, 4, 4, 4, 8])
    value = rng.choice(fields.extremes(size, len(data)))
    at = _place(data, rng)
    return data[:at] + value.to_bytes(size, rng.choice(["little", "big"])) + data[at + size :]


def _token(data: bytes, rng: random.Random) -> bytes:
    """What parsers of text stumble over."""
    at = _place(data, rng)
    return data[:at] + rng.choice(_TOKENS) + data[at + rng.choice([0, 0, 1, 3]) :]


_DAMAGES: tuple[fields.Damage, ...] = (
    _flip, _overwrite, _insert, _delete, _duplicate, _blank, _cut, _splice, _number, _number, _token,
)  # fmt: skip
_BY_PLAN: dict[str, Callable[[Seed, random.Random], bytes]] = {
    "whole": lambda chosen, _: chosen.data,
    "junk behind": lambda chosen, rng: chosen.data + rng.randbytes(rng.randint(1, 2000)),
    "cut": lambda chosen, rng: _cut(chosen.data, rng),
    "text": lambda _, rng: rng.choice(_TEXTS) * rng.choice([1, 1, 40]),
    "too large": lambda chosen, rng: fields.too_large(chosen.form, chosen.data, rng),
    "bit": lambda chosen, rng: _flip(chosen.data, rng, most=1),
}
