"""Train CoPS on an auxiliary dataset: `python jobs/train.py --dataset visa --data URI --output DIR`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # however it is started, `cops` and `pipeline` are found beside `jobs`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from cops.errors import CopsError
from jobs.decoding import Decoding
from jobs.exits import DONE, INTERRUPTED, TOO_MANY_BAD, fail, stop_on_sigterm
from jobs.logs import log_to_stderr
from pipeline.config import DatasetName, Device
from pipeline.errors import InputError
from pipeline.training.config import Data, Metric, Start, TrainConfig


@dataclass(frozen=True, kw_only=True)
class Options:
    """Learn CoPS's prompts on a labelled dataset, the recipe as published; CLIP stays frozen.

    The same command again goes on after its last epoch. Exit codes: 0 done; 1 failed; 2 wrong use; 3 done, but too many
    flawed images; 130 stopped by Ctrl-C or SIGTERM.
    """

    dataset: DatasetName
    """The dataset's name, such as visa or mvtec-ad; or `plain`, for a labelled folder or manifest of one's own."""

    data: str
    """Where it lies; any fsspec URI. Its test images are trained on, as in the paper."""

    output: str
    """Folder for checkpoints, log and curves; one training each."""

    model: str = "embedded"
    """The checkpoint whose CLIP is used, local or in a store, or the name of the packaged one. What it has learned is
    not: prompts start from the seed."""

    backbone: str | None = None
    """Instead of a checkpoint: open_clip's name of a CLIP model, such as ViT-L-14-336-quickgelu, or a .json file with
    such a model's config."""

    pretrained: str | None = None
    """open_clip's tag of the backbone's weights. Default: openai."""

    clip_weights: str | None = None
    """A local file of CLIP weights, for a backbone or for a checkpoint that has none of its own."""

    clip_sha256: str | None = None
    """Checksum to accept for it, where it is not OpenAI's own."""

    image_size: int | None = None
    """Side of the square that the model sees, px. Default: the checkpoint's; 518 for a backbone."""

    recipe: str = "visa"
    """visa: 10 epochs; mvtec-ad: 5 epochs, with the reconstruction loss. Named by what they were published for."""

    epochs: int | None = None
    """Default: the recipe's, as for the next three."""

    batch_size: int | None = None
    """Images of a step, over all workers together."""

    learning_rate: float | None = None
    """Of Adam."""

    seed: int | None = None
    """Of initial weights, order, noise, and the bank of class noise that is kept with the weights."""

    k: int | None = None
    """Kernel of the spatial averaging, patches. Default: that of the recipe's profile, as for alpha and beta."""

    alpha: float | None = None
    """Share of the distance to the normal prototypes."""

    beta: float | None = None
    """Share of the classification term in the image score."""

    validation_dataset: DatasetName | None = None
    """A dataset to choose the best epoch by; named as --dataset."""

    validation_data: str | None = None
    """Where it lies."""

    metric: Metric | None = None
    """What the best epoch is chosen by, a mean over categories. Default: image_auroc with a validation set, else the
    training loss."""

    workers: int | None = None
    """Processes, each with a GPU or a CPU of its own. Default: one for each GPU, one without."""

    device: Device = "auto"
    """Where the model runs."""

    cache: str | None = None
    """Folder for image features, which several trainings may share; workers on several machines should. Default:
    features/ in the output. `none` computes them again in each epoch."""

    max_error_fraction: float = 0.01
    """More flawed images than this share ends a training with exit code 3, all the same done."""

    decoding: tyro.conf.OmitArgPrefixes[Decoding] = field(default_factory=Decoding)

    def config(self) -> TrainConfig:
        """Raises:  InputError: options that cannot be meant."""
        if (self.validation_dataset is None) != (self.validation_data is None):
            raise InputError("--validation-dataset and --validation-data go together")
        validation = None
        if self.validation_dataset is not None and self.validation_data is not None:
            validation = Data(name=self.validation_dataset, uri=self.validation_data)
        start = Start(
            model=self.model,
            backbone=self.backbone,
            pretrained=self.pretrained,
            clip_weights=self.clip_weights,
            clip_sha256=self.clip_sha256,
            image_size=self.image_size,
        )
        return TrainConfig(
            data=Data(name=self.dataset, uri=self.data),
            output=self.output,
            start=start,
            recipe=self.recipe,
            overrides=self._given("epochs", "batch_size", "learning_rate", "seed"),
            constants=self._given("k", "alpha", "beta"),
            validation=validation,
            metric=self.metric,
            workers=self.workers,
            device=self.device,
            cache=self.cache,
            max_error_fraction=self.max_error_fraction,
            decode=self.decoding.rules(),
        )

    def _given(self, *names: str) -> dict[str, float]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def main(options: Options) -> int:
    log_to_stderr()
    stop_on_sigterm()
    try:
        return run(options.config())
    except CopsError as error:
        return fail(error)
    except KeyboardInterrupt:
        print(f"stopped. Its epochs are kept; the same command goes on in {options.output}", file=sys.stderr)
        return INTERRUPTED


def run(config: TrainConfig) -> int:
    from pipeline.training import summary  # noqa: PLC0415 -- Ray and torch take seconds: after the options are known good
    from pipeline.training.run import train  # noqa: PLC0415 -- as above

    outcome = train(config)
    print(summary.describe(outcome, config))
    return TOO_MANY_BAD if summary.too_many_bad(outcome, config.max_error_fraction) else DONE


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
