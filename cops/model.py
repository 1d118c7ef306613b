"""CoPS, the paper's figure as code.

The paper's symbols, decoded once:
    B batch · S image side, 518 px · p patch, 14 px · g = S/p, 37 · N = g² patches · D vision width, 1024
    C joint embedding, 768 · M state tokens, 6 · R draws of the class tokens, 10 · τ temperature, 0.07
    f image feature (B, C) · P patch features (B, N, C) · t_n, t_a state queries (M, C)
    A_n, A_a prototypes of an image (B, M, C) · d_n, d_a distances to them (B, N) · z class noise (R, C)
    T text features (B, 2, C), [normal, anomaly] · p_i anomaly probability · s_i patch score · α, β weights of the parts
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from numpy.typing import ArrayLike
from open_clip.model import CLIP
from torch import Tensor, nn
from torch.nn import functional

from cops import alignment, maps
from cops.backbone import build_clip, joint_width
from cops.config import CopsConfig
from cops.errors import ConfigError
from cops.images import Images, as_batch, to_pixels
from cops.memory import largest_batch
from cops.prompts import KeysValues, PromptLearner, encode_prompts, read_openings
from cops.published import ENCODER, LEARNED
from cops.transfer import Download, download, upload
from cops.vision import VisionFeatures, encode_images

DEFAULT_BATCH = {"cuda": 32}
CPU_BATCH = 4  # more gains nothing on a CPU
_MEASURING = Lock()  # what a batch takes is measured while no other thread is at it

Scores = tuple[Float[Tensor, " b"], Float[Tensor, " b"], Float[Tensor, "b n"]]
"""Image scores, classification terms and patch scores of one batch."""

UNTRAINED = "These weights are untrained: scores and maps show that the software runs, and say nothing of the pictures."


@dataclass(frozen=True)
class Prediction:
    """What the model says of B images, float32; every score is in [0, 1], higher is more anomalous."""

    pred_score: Float32[np.ndarray, " b"]
    """β · class_score + (1 − β) · patch_score_max."""
    class_score: Float32[np.ndarray, " b"]
    """The classification term alone, before β."""
    patch_scores: Float32[np.ndarray, "b g g"]
    """The grid that the anomaly map is made of."""

    @property
    def patch_score_max(self) -> Float32[np.ndarray, " b"]:
        """The hottest patch of each image."""
        hottest: np.ndarray = self.patch_scores.max(axis=(1, 2))
        return hottest


@dataclass(frozen=True)
class ForwardPass:
    """Every quantity of the figure, for B images."""

    image_features: Float[Tensor, "b c"]
    patch_features_raw: Float[Tensor, "b n c"]
    patch_features: Float[Tensor, "b n c"]
    prototypes_normal: Float[Tensor, "b m c"]
    prototypes_anomaly: Float[Tensor, "b m c"]
    distance_normal: Float[Tensor, "b n"]
    distance_anomaly: Float[Tensor, "b n"]
    text_features_per_sample: Float[Tensor, "b 2 r c"]
    text_features: Float[Tensor, "b 2 c"]
    patch_scores: Float[Tensor, "b n"]
    class_score: Float[Tensor, " b"]
    patch_score_max: Float[Tensor, " b"]
    pred_score: Float[Tensor, " b"]


class CoPS(nn.Module):
    """The detector: CLIP under open_clip's own names, and what CoPS learns under `prompt_learner`.

    State dicts may name the latter as published: without that prefix, with the VAE's encoder, which is left out, and
    without a bank of class noise, which stays as it is. Weights that are loaded so count as trained.

    Build it with `cops.load`, `cops.build` or `cops.from_checkpoint`; made directly, its weights are not set.
    """

    model_id: str
    """Of the checkpoint that the weights are from; empty where a state dict was loaded since."""

    def __init__(self, config: CopsConfig) -> None:
        super().__init__()
        clip: CLIP = build_clip(config)
        self.config = config
        self.provenance: dict[str, Any] = {}
        self.model_id = ""
        self.precision = "float32"
        self._kept_openings: tuple[list[tuple[int, int]], KeysValues] | None = None
        self._largest_batch: int | None = None
        self.grid = config.image_size // int(clip.visual.patch_size[0])
        self.visual = clip.visual
        self.transformer = clip.transformer
        self.token_embedding = clip.token_embedding
        self.positional_embedding = clip.positional_embedding
        self.ln_final = clip.ln_final
        self.text_projection = clip.text_projection
        self.logit_scale = clip.logit_scale
        self.prompt_learner = PromptLearner(config, joint_width(clip))
        self.register_load_state_dict_pre_hook(_other_weights)  # type: ignore[no-untyped-call]

    @property
    def image_size(self) -> int:
        """Side S of the square that pictures are resized to, px."""
        return self.config.image_size

    @property
    def trained(self) -> bool:
        """Whether somebody trained these weights."""
        return self.provenance.get("trained") is True

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the scores has to know, in plain words."""
        return () if self.trained else (UNTRAINED,)

    @property
    def device(self) -> torch.device:
        return cast(Tensor, self.positional_embedding).device

    def forward(self, pixels: Float[Tensor, "b 3 s s"]) -> ForwardPass:
        """Everything the figure shows, for normalised pixels."""
        return self.align(encode_images(self.visual, pixels))

    def align(self, seen: VisionFeatures) -> ForwardPass:
        """The figure right of the vision tower: everything from its features, which may have been kept."""
        config, learner = self.config, self.prompt_learner
        patches = alignment.spatial_average(seen.patches, config.k)

        normal, anomaly = learner.extractor(learner.t_n, patches), learner.extractor(learner.t_a, patches)
        distance_normal = alignment.prototype_distance(patches, normal)
        distance_anomaly = alignment.prototype_distance(patches, anomaly)

        per_sample = self.text_features(normal, anomaly)  # (b, 2, r, c)
        text = functional.normalize(per_sample.mean(dim=2), dim=-1)  # (b, 2, c)

        temperature = config.temperature
        probability = alignment.anomaly_probability(patches, text, temperature=temperature)
        patch_scores = alignment.score_patches(probability, distance_normal, distance_anomaly, alpha=config.alpha)
        class_score = alignment.anomaly_probability(seen.image[:, None], text, temperature=temperature)[:, 0]
        hottest = patch_scores.amax(dim=1)
        return ForwardPass(
            image_features=seen.image,
            patch_features_raw=seen.patches,
            patch_features=patches,
            prototypes_normal=normal,
            prototypes_anomaly=anomaly,
            distance_normal=distance_normal,
            distance_anomaly=distance_anomaly,
            text_features_per_sample=per_sample,
            text_features=text,
            patch_scores=patch_scores,
            class_score=class_score,
            patch_score_max=hottest,
            pred_score=alignment.score_images(class_score, hottest, beta=config.beta),
        )

    def text_features(
        self,
        normal: Float[Tensor, "b m c"],
        anomaly: Float[Tensor, "b m c"],
        codes: Float[Tensor, "#b r c"] | None = None,
    ) -> Float[Tensor, "b 2 r c"]:
        """Unit text features of both prompts for each draw of the class tokens, from an image's prototypes.

        As published, the normal prompt takes the anomaly prototypes and the other way round: the published weights were
        trained so. `CopsConfig.swap_prototypes` undoes it.
        """
        states = (anomaly, normal) if self.config.swap_prototypes else (normal, anomaly)
        _, stop, end = self._anchors()
        ends = encode_prompts(
            self.prompt_learner(*states, codes),
            torch.stack([stop, end]),
            self._openings(),
            transformer=self.transformer,
            positions=self.positional_embedding,
        )  # (b, 2, r, c)
        return functional.normalize(self.ln_final(ends) @ self.text_projection, dim=-1)

    @torch.inference_mode()
    def predict(self, images: Images, *, batch_size: int | None = None) -> Prediction:
        """Scores of pictures; each depends on its picture and the model alone, not on its neighbours.

        Args:    images: PIL images, or uint8 RGB (B, H, W, 3), of any size.   batch_size: None is fit for the device;
             on a GPU never more than its free memory takes, which is measured once.
        Raises:  ImageError: a picture cannot be scored as it is.   ConfigError: a batch size below 1.
        """
        return self.in_batches(self._scores, images, batch_size)

    def in_batches(
        self, scores: Callable[[Float[Tensor, "b 3 s s"]], Scores], images: Images, batch_size: int | None
    ) -> Prediction:
        """What a scoring of normalised pixels says of pictures of any number and size. Raises as `predict`."""
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more, not {batch_size}")
        batch_size = batch_size or DEFAULT_BATCH.get(self.device.type, CPU_BATCH)
        images = as_batch(images)
        if self.device.type == "cuda" and min(batch_size, len(images)) > 1:
            with _MEASURING:
                if self._largest_batch is None:
                    self._largest_batch = largest_batch(lambda count: self._begin_blank(scores, count), self.device)
            batch_size = min(batch_size, self._largest_batch)
        found: list[np.ndarray] = []
        behind: Download | None = None
        for start in range(0, len(images), batch_size):
            ahead = self._begin_batch(scores, images[start : start + batch_size], batch_size)
            if behind is not None:  # while the device works on the next batch
                found.append(behind.wait())
            behind = ahead
        if behind is not None:
            found.append(behind.wait())
        return _prediction(np.concatenate(found)[: len(images)] if found else None, self.grid)

    def anomaly_map(
        self, patch_scores: ArrayLike, size_hw: tuple[int, int] | None = None, *, rows: slice | None = None
    ) -> Float32[np.ndarray, "*b h w"]:
        """The full-size map of patch scores; see `cops.anomaly_map`."""
        sigma_px = self.config.sigma_px
        return maps.anomaly_map(patch_scores, image_size=self.image_size, size_hw=size_hw, sigma_px=sigma_px, rows=rows)

    def normalise(self, pixels: UInt8[np.ndarray, "b s s 3"]) -> Float[Tensor, "b 3 s s"]:
        """8-bit pixels on the model's device, scaled to [0, 1], with CLIP's mean and deviation taken out."""
        scaled = upload(pixels, self.device).permute(0, 3, 1, 2).float() / 255
        mean, std = (_channels(values, self.device) for values in (self.config.pixel_mean, self.config.pixel_std))
        return (scaled - mean) / std

    def _scores(self, pixels: Float[Tensor, "b 3 s s"]) -> Scores:
        passed: ForwardPass = self(pixels)
        return passed.pred_score, passed.class_score, passed.patch_scores

    def _begin_blank(self, scores: Callable[[Float[Tensor, "b 3 s s"]], Scores], count: int) -> None:
        self._begin_batch(scores, np.zeros((count, self.image_size, self.image_size, 3), np.uint8), count).wait()

    def _begin_batch(
        self, scores: Callable[[Float[Tensor, "b 3 s s"]], Scores], images: Images, batch_size: int
    ) -> Download:
        """Both scores and the patch scores of a batch, (b, 2 + n), on their way to the host.

        A compiled model takes batches of one size alone: a short one is filled with black pictures, to be cut off.
        """
        pixels = to_pixels(images, self.image_size)
        if self._compiled_call_impl is not None and len(pixels) < batch_size:
            pixels = np.concatenate([pixels, np.zeros((batch_size - len(pixels), *pixels.shape[1:]), np.uint8)])
        with torch.autocast(self.device.type, enabled=False):  # precision is this model's affair, not the caller's
            pred_score, class_score, patch_scores = scores(self.normalise(pixels))
            return download(torch.cat([pred_score[:, None], class_score[:, None], patch_scores], dim=1))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _openings(self) -> KeysValues:
        """What the text tower keeps of both prompts' start and context, which no image changes.

        Read once for a model: again where a weight has changed, and always where gradients are asked for.
        """
        learner = self.prompt_learner
        read = [learner.ctx_pos, learner.ctx_neg, *learner.compound_prompts_text, *self.transformer.parameters()]
        read += [cast(Tensor, self.token_embedding.weight), cast(Tensor, self.positional_embedding)]
        if torch.is_grad_enabled() or any(weight.is_inference() for weight in read):
            return self._read_openings()
        state = [(weight.data_ptr(), weight._version) for weight in read]
        if self._kept_openings is None or self._kept_openings[0] != state:
            self._kept_openings = state, self._read_openings()
        return self._kept_openings[1]

    def _read_openings(self) -> KeysValues:
        context = self.prompt_learner.context()
        start = self._anchors()[:1].expand(len(context), -1, -1)
        return read_openings(
            torch.cat([start, context], dim=1),
            transformer=self.transformer,
            positions=self.positional_embedding,
            deep_prompts=list(self.prompt_learner.compound_prompts_text),
        )

    def _anchors(self) -> Float[Tensor, "3 c"]:
        table = cast(Tensor, self.token_embedding.weight)
        return torch.stack([table[row] for row in (self.config.sot_id, self.config.stop_id, self.config.eot_id)])


def _other_weights(model: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before a state dict is loaded: names of what CoPS learns get their prefix, where they have none, as published."""
    assert isinstance(model, CoPS)
    learned = {name.partition(".")[0] for name in model.prompt_learner.state_dict()} | {ENCODER.removesuffix(".")}
    for name in list(state_dict):
        own = name.removeprefix(prefix)
        if own.partition(".")[0] in learned:
            state_dict[prefix + LEARNED + own] = state_dict.pop(name)
    model.model_id = ""
    model.provenance = {"source": "load_state_dict", "trained": True}


@cache
def _channels(values: tuple[float, ...], device: torch.device) -> Float[Tensor, "3 1 1"]:
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)[:, None, None]


def _prediction(found: Float32[np.ndarray, "b m"] | None, grid: int) -> Prediction:
    """Of rows with both scores and the patch scores."""
    if found is None:
        found = np.empty((0, 2 + grid**2), np.float32)
    scores, patches = found[:, :2], np.ascontiguousarray(found[:, 2:])
    return Prediction(scores[:, 0].copy(), scores[:, 1].copy(), patches.reshape(-1, grid, grid))
