"""The whole making of the packaged model, cut to seconds: what it leaves, and its going on after a stop."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from safetensors.torch import load_file

import cops
from cops.texts import encode_texts, words_of
from cops.zero_shot import encode_states
from pipeline.embedded import pretrain as pretraining
from pipeline.embedded import world
from pipeline.embedded.feed import Phase
from pipeline.embedded.folder import keep_to
from pipeline.embedded.make import Making, auroc_error, least_within, make_embedded
from pipeline.embedded.pretrain import PretrainingRecipe, pretrain
from pipeline.errors import InputError

SHORT = PretrainingRecipe(
    pictures=4,
    phases=(Phase(steps=2, pairs=1, grid=4), Phase(steps=1, pairs=1, grid=6, crowds=0.3, peak=0.5)),
    cool_down=1,
)


@pytest.fixture(autouse=True)
def _few_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretraining, "_STATISTICS", 3)


def test_pretraining_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped once in each phase, it ends in the same weights, bit for bit."""
    monkeypatch.setattr(pretraining, "_SAVE_EVERY", 1)
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = pretrain(SHORT, tmp_path / "whole", workers=0)

    write = pretraining._Journal.write

    def killed(journal: pretraining._Journal) -> None:
        write(journal)
        raise KeyboardInterrupt

    monkeypatch.setattr(pretraining._Journal, "write", killed)
    for _ in range(2):  # once in each phase
        with pytest.raises(KeyboardInterrupt):
            pretrain(SHORT, tmp_path / "stopped", workers=0)
    monkeypatch.setattr(pretraining._Journal, "write", write)
    assert int(load_file(tmp_path / "stopped" / "pretraining.safetensors")["step"]) == 2
    again = pretrain(SHORT, tmp_path / "stopped", workers=0)
    assert all(tensor.equal(again.state_dict()[name]) for name, tensor in whole.state_dict().items())


def test_the_making_leaves_a_small_complete_model(tmp_path: Path) -> None:
    """One that loads, knows its words and refuses others; made again, nothing is done twice."""
    making = Making(pretraining=SHORT, auxiliary=3, validation=3, epochs=1)
    told = make_embedded(making, tmp_path / "work", tmp_path / "model.safetensors", workers=0)
    assert (tmp_path / "model.safetensors").stat().st_size < 25e6
    model = cops.load(tmp_path / "model.safetensors")
    assert model.trained and model.config.k == making.k and {"alpha", "beta"} <= set(told["constants"])
    assert model.provenance["pretraining"]["phases"][1]["grid"] == 6 and model.provenance["auxiliary_dataset"]["hash"]
    assert {"scratched", "hazelnut"} & set(words_of(model.config)) == {"scratched"}
    encode_states(model)  # the baseline's prompts
    with pytest.raises(cops.ConfigError, match="does not know 'hazelnut'"):
        encode_texts(model, ["a photo of a hazelnut"])

    assert model.provenance["pretraining"]["seconds"] > 0
    before = (tmp_path / "work" / "pretraining.safetensors").stat().st_mtime_ns
    again = make_embedded(making, tmp_path / "work", tmp_path / "again.safetensors", workers=0)
    assert (tmp_path / "work" / "pretraining.safetensors").stat().st_mtime_ns == before
    assert again == told
    assert cops.load(tmp_path / "again.safetensors").model_id == model.model_id


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    """What differs is named, and nothing in the folder is touched."""
    keep_to(tmp_path, {**asdict(Making(pretraining=SHORT)), "world": world.digest()})
    with pytest.raises(InputError, match=r"begun otherwise: epochs was 10, is now 3\. Give the same"):
        make_embedded(Making(pretraining=SHORT, epochs=3), tmp_path, tmp_path / "model.safetensors", workers=0)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]


def test_the_least_share_within_a_standard_error_of_the_best() -> None:
    """β's rule; with no slack, the first of the best. The error is that of Hanley and McNeil's own example, 0.032."""
    assert auroc_error(0.893, normal=58, anomalous=51) == pytest.approx(0.032, abs=6e-4)
    values = [0.70, 0.76, 0.79, 0.78, 0.79]
    assert [least_within(values, slack) for slack in (0.0, 0.02, 0.04, 1.0)] == [2, 2, 1, 0]
