"""What may be asked of a training, and what is refused before anything is read."""

import pytest

from cops.errors import ConfigError
from pipeline.errors import InputError
from pipeline.training.config import Data, Start, TrainConfig

HERE = Data(name="plain", uri="images")
VALIDATION = Data(name="visa", uri="visa")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": Data(name="vis", uri="x")}, "--dataset: unknown dataset 'vis'; there are mvtec-ad, visa"),
        ({"data": Data(name="visa", uri="")}, "--dataset visa: expected where it lies"),
        ({"data": Data(name="visa", uri="s3://key:secret@b/x")}, "carries credentials"),
        ({"validation": Data(name="x", uri="x")}, "--validation-dataset: unknown dataset 'x'"),
        ({"recipe": "mvtec"}, "--recipe: unknown recipe 'mvtec'; there are visa, mvtec-ad"),
        ({"metric": "aupro"}, "--metric aupro needs a validation set"),
        ({"metric": "auroc", "validation": VALIDATION}, "--metric: expected one of image_auroc, "),
        ({"output": ""}, "--output: expected a folder, got an empty path"),
        ({"output": "s3://bucket/x"}, "--output: expected a folder on this machine"),
        ({"cache": "s3://bucket/x"}, "--cache: expected a folder on this machine"),
        ({"workers": 0}, "--workers: expected 1 to 8"),
        ({"workers": 9}, "--workers: expected 1 to 8, the images of a batch, got 9"),
        ({"max_error_fraction": 2.0}, "--max-error-fraction"),
    ],
)
def test_what_cannot_be_meant(changes, words):
    """The flag is named, and what was expected."""
    with pytest.raises(InputError, match=words):
        TrainConfig(**({"data": HERE, "output": "out"} | changes))


def test_numbers_of_the_recipe_are_checked():
    """By the recipe itself."""
    with pytest.raises(ConfigError, match="learning_rate must be above 0"):
        TrainConfig(data=HERE, output="out", overrides={"learning_rate": 0.0})


def test_the_recipe_with_what_is_given():
    """Only what is given changes."""
    config = TrainConfig(data=HERE, output="out", recipe="mvtec-ad", overrides={"epochs": 2, "seed": 3})
    recipe = config.find_recipe()
    assert (recipe.epochs, recipe.seed, recipe.batch_size, recipe.weights.reconstruction) == (2, 3, 8, 1.0)


def test_what_the_best_epoch_is_chosen_by():
    """Without a validation set the loss, with one image AUROC, and what is given before either."""
    assert TrainConfig(data=HERE, output="out").chosen_by == "loss"
    assert TrainConfig(data=HERE, output="out", validation=VALIDATION).chosen_by == "image_auroc"
    assert TrainConfig(data=HERE, output="out", validation=VALIDATION, metric="loss").chosen_by == "loss"


def test_paths_are_understood_in_other_working_directories(tmp_path, monkeypatch):
    """As workers have; names of models and URIs stay."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.safetensors").touch()
    given = TrainConfig(data=HERE, output="out", cache="kept", start=Start(model="m.safetensors")).with_full_paths()
    assert (given.output, given.cache) == (str(tmp_path / "out"), str(tmp_path / "kept"))
    assert given.start.model == str(tmp_path / "m.safetensors")
    other = TrainConfig(data=HERE, output="/x", cache="none", start=Start(backbone="ViT-B-32")).with_full_paths()
    assert (other.cache, other.start.backbone, other.start.model) == ("none", "ViT-B-32", "embedded")
    assert TrainConfig(data=HERE, output="o", start=Start(model="s3://b/m")).with_full_paths().start.model == "s3://b/m"
