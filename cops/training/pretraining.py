"""A small CLIP from scratch, on pictures with captions and defect masks: the backbone of the packaged model.

Contrastive training as CLIP's, and beside it what CoPS will ask of the backbone: patch features of the dense path and
image features without `ln_post` are held against texts of normal and of damaged things.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cops.attention import project_in, project_out
from cops.errors import CheckpointError
from cops.model import CoPS
from cops.products import feed_forward
from cops.published import LEARNED
from cops.texts import encode_tokens, tokenize
from cops.vision import embed

TEXTS_A_STEP = 4  # of each state, drawn anew for every step
STRONGEST = 4  # patches
_WAVE = 0.5  # of positions; patches are white, of about unit variance
_TINY_EIGENVALUE = 3e-3  # of patches in units of CLIP's pixel norm: below it is noise, not to be blown up


@dataclass(frozen=True)
class CaptionedBatch:
    """Pictures in pairs, a normal one and its damaged twin, with what is known of them."""

    pixels: Float[Tensor, "b 3 s s"]
    """Normalised."""
    coverage: Float[Tensor, "b n"]
    """The share of damaged pixels in each patch."""
    captions: Sequence[str]
    kinds: Int[Tensor, " b"]
    """The place of the defect in `StateTexts.kinds`; −1 for normal pictures."""

    def to(self, device: torch.device) -> CaptionedBatch:
        """The same on a device."""
        return CaptionedBatch(self.pixels.to(device), self.coverage.to(device), self.captions, self.kinds.to(device))


@dataclass(frozen=True, kw_only=True)
class StateTexts:
    """What pictures and patches are held against."""

    normal: tuple[str, ...]
    anomalous: tuple[str, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PretrainingWeights:
    """Weights of the losses."""

    contrastive: float = 0.3
    image: float = 0.5
    patches: float = 2.0
    overlap: float = 1.0
    deep: float = 0.5
    """Of the patches' losses on the ordinary path, whose values the dense path gathers."""
    kinds: float = 0.3
    peak: float = 0.0
    """Of what a picture's strongest patches say of the whole."""


@dataclass(frozen=True)
class PathFeatures:
    """Features before they are normalised."""

    image: Float[Tensor, "b c"]
    patches: Float[Tensor, "b n c"]
    ordinary: Float[Tensor, "b n c"]
    """Patches of the ordinary path, through the same projection."""


class Pretrainer:
    """A model's CLIP with its optimisers, Muon for the vision layers' matrices and Adam for the rest, and the running
    mean of its weights.
    """

    def __init__(
        self,
        model: CoPS,
        texts: StateTexts,
        *,
        learning_rate: float,
        seed: int,
    ) -> None:
        self.model, self.texts, self.seed = model, texts, seed
        self.weights = PretrainingWeights()
        self.learning_rate = learning_rate
        self.step_number = 0
        self.parameters = {n: p for n, p in model.named_parameters() if not n.startswith(LEARNED)}
        model.requires_grad_(False)
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        matrices = [p for n, p in self.parameters.items() if p.ndim == 2 and n.startswith("visual.transformer")]
        chosen = set(map(id, matrices))
        rest = [p for p in self.parameters.values() if id(p) not in chosen]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=learning_rate, weight_decay=0.0, betas=(0.9, 0.98)),
        ]
        self.averages = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def step(self, batch: CaptionedBatch, rate: float) -> dict[str, float]:
        """One step of the optimisers; the losses before it.

        Args:    rate: the learning rate as a share of its peak.
        """
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step_number)
        found = self.losses(batch, generator)
        weights = vars(self.weights)
        total = torch.stack([weights[name] * value for name, value in found.items()]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate * rate
            optimiser.step()
            optimiser.zero_grad()
        self.step_number += 1
        decay = min(0.998, self.step_number / (self.step_number + 9))
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                self.averages[name].lerp_(parameter, 1 - decay)
        return {name: float(value.detach()) for name, value in found.items()}

    def losses(self, batch: CaptionedBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Every loss of a batch, each a mean."""
        model, tau, batch = self.model, self.model.config.temperature, batch.to(self.model.device)
        captions = sorted(set(batch.captions))
        place = {caption: at for at, caption in enumerate(captions)}
        of_image = torch.tensor([place[caption] for caption in batch.captions], device=model.device)
        drawn = [*_draw(self.texts.normal, generator), *_draw(self.texts.anomalous, generator)]
        with torch.autocast(model.device.type, torch.bfloat16):
            seen = encode_two_paths(model.visual, batch.pixels)
            tokens = tokenize(
                [*captions, *drawn, *self.texts.kinds], model.config, length=len(model.positional_embedding)
            )
            features = encode_tokens(model, tokens.to(model.device))
        text, states, kinds = features.float().split([len(captions), len(drawn), len(self.texts.kinds)])  # type: ignore[no-untyped-call]
        state = functional.normalize(states.reshape(2, TEXTS_A_STEP, -1).mean(dim=1), dim=-1)  # (2, c)
        image, patches, ordinary = (
            functional.normalize(part.float(), dim=-1) for part in (seen.image, seen.patches, seen.ordinary)
        )
        target = (5 * batch.coverage).clamp(max=1)  # a fifth of a patch is enough to call it damaged
        logits = patches @ state.T / tau
        of_patches = patch_losses(logits, target)
        of_ordinary = patch_losses(ordinary @ state.T / tau, target)
        damaged = batch.coverage > 0.3
        kind = batch.kinds[:, None].expand_as(damaged)
        named = damaged & (kind >= 0)
        kinds_loss = functional.cross_entropy(patches[named] @ kinds.T / tau, kind[named], reduction="sum")
        return {
            "contrastive": contrastive_loss(image, text, of_image, scale=model.logit_scale.exp().clamp(max=50)),
            "image": functional.cross_entropy(image @ state.T / tau, (batch.kinds >= 0).long()),
            "patches": of_patches[0],
            "overlap": of_patches[1],
            "deep": self.weights.patches * of_ordinary[0] + self.weights.overlap * of_ordinary[1],
            "kinds": kinds_loss / named.sum().clamp(min=1),
            "peak": peak_loss(logits, batch.kinds >= 0),
        }

    def state(self) -> dict[str, Tensor]:
        """All that training has changed, for `restore`."""
        tensors = {"step": torch.tensor(self.step_number)}
        for name, parameter in self.parameters.items():
            tensors[f"parameter.{name}"] = parameter.detach()
            tensors[f"average.{name}"] = self.averages[name]
            for optimiser in self.optimisers:
                for kind, value in optimiser.state.get(parameter, {}).items():
                    tensors[f"{kind}.{name}"] = value
        return tensors

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave.

        Raises:  CheckpointError: it is of another model.
        """
        expected = {f"parameter.{name}": p.shape for name, p in self.parameters.items()}
        if expected != {name: tensor.shape for name, tensor in state.items() if name.startswith("parameter.")}:
            raise CheckpointError("the training state is of another model")
        owners = {id(p): optimiser for optimiser in self.optimisers for p in optimiser.param_groups[0]["params"]}
        for name, parameter in self.parameters.items():
            parameter.data.copy_(state[f"parameter.{name}"])
            self.averages[name].copy_(state[f"average.{name}"])
            kinds = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")
            found = {
                kind: state[f"{kind}.{name}"].to("cpu" if kind == "step" else parameter.device, copy=True)
                for kind in kinds
                if f"{kind}.{name}" in state
            }
            if found:
                owners[id(parameter)].state[parameter] = found
        self.step_number = int(state["step"])

    def averaged(self) -> dict[str, Tensor]:
        """CLIP's tensors with the running mean of the weights."""
        return {name: tensor.clone() for name, tensor in self.averages.items()}


def encode_two_paths(visual: nn.Module, pixels: Float[Tensor, "b 3 s s"]) -> PathFeatures:
    """As `cops.vision.encode_images`, with the ordinary path's patches, and attention written out.

    torch's fused attention takes two to three times as long on a CPU in bfloat16, forward and backward.
    """
    x = embed(visual, pixels)
    y = x
    for block in visual.transformer.resblocks:  # type: ignore[union-attr]
        query, key, value = project_in(block.attn, block.ln_1(x))
        y = y + project_out(block.attn, _attend(value, value, value))
        x = x + project_out(block.attn, _attend(query, key, value))
        x = x + feed_forward(block, x)
    projection: Tensor = visual.proj  # type: ignore[assignment]
    patches, ordinary = (visual.ln_post(path[:, 1:]) @ projection for path in (y, x))  # type: ignore[operator]
    return PathFeatures(image=x[:, 0] @ projection, patches=patches, ordinary=ordinary)


def patch_losses(logits: Float[Tensor, "b n 2"], target: Float[Tensor, "b n"]) -> tuple[Tensor, Tensor]:
    """Cross-entropy with more weight on damaged and on misjudged patches, and dice of each image."""
    margin = logits[..., 1] - logits[..., 0]
    probability = margin.sigmoid()
    weight = (1 + 3 * target) * ((target - probability).abs() + 0.05) * 2
    entropy = functional.binary_cross_entropy_with_logits(margin, target, reduction="none")
    common = (probability * target).sum(dim=1)
    dice = 1 - (2 * common + 1) / (probability.sum(dim=1) + target.sum(dim=1) + 1)
    return (weight * entropy).mean(), dice.mean()


def peak_loss(logits: Float[Tensor, "b n 2"], damaged: Bool[Tensor, " b"]) -> Tensor:
    """Cross-entropy of each picture's strongest patches: one false alarm spoils a normal picture's score."""
    margin = logits[..., 1] - logits[..., 0]
    strongest = margin.topk(STRONGEST, dim=1).values.mean(dim=1)
    return functional.binary_cross_entropy_with_logits(strongest, damaged.float())


def contrastive_loss(
    images: Float[Tensor, "b c"], texts: Float[Tensor, "u c"], of_image: Int[Tensor, " b"], *, scale: Tensor
) -> Tensor:
    """CLIP's loss where several pictures may have one caption: each of them counts as right.

    Args:    images, texts: of unit length; the texts are distinct.   of_image: the text of each picture.
    """
    logits = scale * images @ texts.T  # (b, u)
    matches = functional.one_hot(of_image, len(texts)).float()
    to_image = -(matches * logits.log_softmax(dim=0)).sum(dim=0) / matches.sum(dim=0)
    return (functional.cross_entropy(logits, of_image) + to_image.mean()) / 2


def initialise(model: CoPS, pictures: Iterator[Float[Tensor, "3 s s"]], *, seed: int) -> None:
    """Weights to start from: patches whitened, attention that subtracts what similar patches have in common.

    Whitening lets fine detail reach the first layer as strongly as brightness does, which outweighs it a thousandfold
    in raw pixels. Queries that resemble keys, values that leave through the negative of their own projection, and
    positions as waves, which make near patches alike, are what trained vision transformers look like.
    Args:    pictures: normalised, to take the patches' statistics from.
    Source:  Trockman and Kolter, Mimetic Initialization of Self-Attention Layers (2023), for the attention.
    """
    generator = torch.Generator().manual_seed(seed)
    for tower in (model.visual.transformer, model.transformer):
        width, depth = tower.width, len(tower.resblocks)
        residual = width**-0.5 * (2 * depth) ** -0.5
        for block in tower.resblocks:
            spreads = {
                block.attn.in_proj_weight: width**-0.5,
                block.attn.out_proj.weight: residual,
                block.mlp.c_fc.weight: (2 * width) ** -0.5,
                block.mlp.c_proj.weight: residual,
            }
            for weight, spread in spreads.items():
                weight.data.normal_(0, spread, generator=generator)
    for weight, spread in (
        (model.visual.class_embedding, 0.02),
        (model.token_embedding.weight, 0.02),
        (model.positional_embedding, 0.01),
        (model.visual.proj, model.visual.proj.shape[0] ** -0.5),
        (model.text_projection, model.text_projection.shape[0] ** -0.5),
    ):
        weight.data.normal_(0, spread, generator=generator)
    model.visual.positional_embedding.data.copy_(_waves(*model.visual.positional_embedding.shape))
    _whiten(model.visual.conv1.weight, pictures, generator)
    for block in model.visual.transformer.resblocks:
        _mimic(block.attn, generator)


def _mimic(attn: nn.MultiheadAttention, generator: torch.Generator) -> None:
    width = attn.embed_dim
    query, key, value = attn.in_proj_weight.data.chunk(3)

    def noise(spread: float) -> Tensor:
        return 0.3 * spread * torch.randn(width, width, generator=generator)

    key.copy_(query + noise(width**-0.5))
    turn, _ = torch.linalg.qr(torch.randn(width, width, generator=generator))
    value.copy_(turn)
    attn.out_proj.weight.data.copy_(-0.4 * turn.T + noise(width**-0.5 / 4))


def _waves(rows: int, width: int) -> Float[Tensor, "t d"]:
    """Positions of a square grid as sines and cosines of rows and columns; the class token's is 0."""
    side = round((rows - 1) ** 0.5)
    rates = math.pi / side * 2 ** torch.linspace(0, math.log2(side / 2), width // 4)  # from half a wave to side / 4
    phases = torch.arange(side)[:, None] * rates  # (side, width / 4)
    one = torch.cat([phases.sin(), phases.cos()], dim=1)
    grid = torch.cat([one[:, None].expand(-1, side, -1), one[None].expand(side, -1, -1)], dim=2)
    table = torch.zeros(rows, width)
    table[1:, : grid.shape[2]] = _WAVE * grid.reshape(side * side, -1)
    return table


def _whiten(weight: Tensor, pictures: Iterator[Float[Tensor, "3 s s"]], generator: torch.Generator) -> None:
    """The patch convolution: decorrelated, equally strong components of the pictures' patches, mixed by a rotation."""
    width, _, patch, _ = weight.shape
    patches = torch.cat([_patches(picture, patch) for picture in pictures]).double()
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    kept = min(width, len(values))
    components = (vectors / (values + _TINY_EIGENVALUE).sqrt()).T.flip(0)[:kept].float()
    padded = torch.zeros(width, components.shape[1])
    padded[:kept] = components
    turn, _ = torch.linalg.qr(torch.randn(width, width, generator=generator))
    weight.data.copy_((turn @ padded).view_as(weight))


def _patches(picture: Float[Tensor, "3 s s"], patch: int) -> Float[Tensor, "n d"]:
    unfolded = functional.unfold(picture[None], patch, stride=patch)[0]
    return unfolded.T


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    with torch.autocast(query.device.type, enabled=False):
        weights: Tensor = (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(dim=-1)
        return weights @ value


def _draw(texts: Sequence[str], generator: torch.Generator) -> list[str]:
    return [texts[at] for at in torch.randperm(len(texts), generator=generator)[:TEXTS_A_STEP].tolist()]


def rate_at(step: int, steps: int, *, warm_up: int, cool_down: int) -> float:
    """The learning rate as a share of its peak: a ramp, a plateau, a ramp down over the last `cool_down` steps."""
    rise = min(1.0, (step + 1) / warm_up)
    left = (steps - step) / max(1, cool_down)
    return rise * min(1.0, 0.02 + 0.98 * math.sin(0.5 * math.pi * min(1.0, left)) ** 2)
