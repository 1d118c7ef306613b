"""A whole training in this process: what it writes, what it says of itself, and what becomes of it after a stop."""

import json
import math
import shutil

import numpy as np
import pytest
from PIL import Image
from small_training import assert_same_tensors, content, request, train_here, write_images

import cops
from cops.training.fit import EpochLosses
from pipeline.errors import ClaimError, InputError, RunError
from pipeline.training import folder as folders
from pipeline.training.config import Data, Start
from pipeline.training.folder import Folder
from pipeline.training.record import best_of, differences, epoch_record
from pipeline.training.run import prepare, train

SEEDED = {"epochs": 3, "batch_size": 4, "seed": 7}


@pytest.fixture(scope="module")
def validated_on(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("validation") / "other_parts", seed=5)


@pytest.fixture(scope="module")
def trained(images, model_file, validated_on, tmp_path_factory):
    """Three epochs, undisturbed."""
    output = tmp_path_factory.mktemp("trained")
    validation = Data(name="plain", uri=str(validated_on))
    train_here(request(images, output, model_file, validation=validation, overrides=SEEDED, metric="pixel_auroc"))
    return output


def log_of(output):
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def provenance_of(path):
    return json.loads(content(path)[0]["provenance"])


def test_a_checkpoint_an_epoch_and_the_best_of_them(trained):
    """Each loads and scores; the best is the one of the highest metric, by the log."""
    epochs = [line for line in log_of(trained) if line["event"] == "epoch"]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    best = max(epochs, key=lambda epoch: epoch["metrics"]["pixel_auroc"])["epoch"]
    assert (trained / "best.safetensors").read_bytes() == (trained / f"epochs/{best:02d}.safetensors").read_bytes()
    picture = Image.fromarray(np.zeros((30, 40, 3), np.uint8))
    scores = [cops.load(trained / f"epochs/{n:02d}.safetensors").predict([picture]).pred_score[0] for n in (1, 3)]
    assert np.isfinite(scores).all()
    assert scores[0] != scores[1]


def test_the_header_tells_where_the_weights_are_from(trained):
    """Dataset, its hash, seed, recipe, metrics; and nothing of this machine."""
    told = provenance_of(trained / "epochs/02.safetensors")
    assert told["trained"] is True
    assert told["seed"] == 7
    assert told["epoch"] == 2
    assert told["recipe"]["betas"] == [0.5, 0.999]
    assert told["recipe"]["weights"]["focal"] == 4
    assert told["auxiliary_dataset"]["name"] == "parts"
    assert len(told["auxiliary_dataset"]["hash"]) == 64
    assert (told["auxiliary_dataset"]["normal"], told["auxiliary_dataset"]["anomalous"]) == (5, 6)
    assert told["validation_dataset"]["name"] == "other_parts"
    assert told["metrics"] == log_of(trained)[2]["metrics"]
    assert told["base_model"]["name"] == "small.safetensors"
    assert told["base_model"]["random_clip"] is True
    assert cops.load(trained / "best.safetensors").warnings == ()
    for line in ("training.json", "log.jsonl"):
        assert str(trained.parent) not in (trained / line).read_text()
    assert str(trained.parent.parent) not in json.dumps(told)


def test_the_log_begins_with_what_is_trained(trained):
    """A header, then a line an epoch with every loss and metric."""
    header, *epochs = log_of(trained)
    assert header["event"] == "start"
    assert header["constants"]["k"] == 5
    assert header["versions"]["torch"]
    assert len(epochs[0]["losses"]) == 8
    assert epochs[2]["loss"] < epochs[0]["loss"]
    with Image.open(trained / "loss.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 500
        assert len(picture.convert("RGB").getcolors(2**20)) > 50


def stop_after(epochs, monkeypatch):
    """A kill between the checkpoint of the next epoch and its state."""
    real = Folder.write_state

    def write_state(folder, tensors, done):
        if len(done) > epochs:
            raise KeyboardInterrupt
        real(folder, tensors, done)

    monkeypatch.setattr(Folder, "write_state", write_state)


def test_what_goes_on_after_a_stop_is_what_was_not_stopped(
    trained, images, model_file, validated_on, tmp_path, monkeypatch
):
    """Twice stopped: checkpoints and state are those of the undisturbed training, bit for bit."""
    output = tmp_path / "out"
    validation = Data(name="plain", uri=str(validated_on))
    config = request(images, output, model_file, validation=validation, overrides=SEEDED, metric="pixel_auroc")
    for epochs in (0, 1):
        with monkeypatch.context() as patch:
            stop_after(epochs, patch)
            with pytest.raises(KeyboardInterrupt):
                train_here(config)
    train_here(config)
    for path in ("best.safetensors", *(f"epochs/{number:02d}.safetensors" for number in (1, 2, 3))):
        assert_same_tensors(output / path, trained / path)
        assert content(output / path)[0] == content(trained / path)[0]
    assert_same_tensors(output / "state.safetensors", trained / "state.safetensors")
    timeless = [{**line, "seconds": 0, "at": ""} for line in log_of(output)]
    assert timeless == [{**line, "seconds": 0, "at": ""} for line in log_of(trained)]


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives(trained, images, model_file, tmp_path, monkeypatch):
    """To tolerance, with a stop in between: state goes back to the device it came from."""
    config = request(images, tmp_path, model_file, overrides=SEEDED, device="cuda")
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            train_here(config)
    found = [epoch["loss"] for epoch in train_here(config).epochs]
    assert found == pytest.approx([line["loss"] for line in log_of(trained)[1:]], rel=1e-3)


def test_without_a_cache_the_result_is_the_same(trained, images, model_file, validated_on, tmp_path):
    """Features computed in each epoch are those that are kept: bit for bit."""
    validation = Data(name="plain", uri=str(validated_on))
    given = {"validation": validation, "overrides": SEEDED, "metric": "pixel_auroc", "cache": "none"}
    train_here(request(images, tmp_path, model_file, **given))
    assert not (tmp_path / "features").exists()
    assert_same_tensors(tmp_path / "state.safetensors", trained / "state.safetensors")


def test_a_complete_training_is_not_done_again(trained, images, model_file, validated_on):
    """It is told with what it gave."""
    validation = Data(name="plain", uri=str(validated_on))
    config = request(images, trained, model_file, validation=validation, overrides=SEEDED, metric="pixel_auroc")
    outcome = train(config)
    assert outcome.was_complete
    assert [epoch["epoch"] for epoch in outcome.epochs] == [1, 2, 3]
    longer = request(
        images, trained, model_file, validation=validation, overrides=SEEDED | {"seed": 8}, metric="pixel_auroc"
    )
    with pytest.raises(InputError, match=r"recipe.seed was 7, is now 8"):
        prepare(longer)


@pytest.mark.parametrize("name", ["best.safetensors", "loss.png", "log.jsonl"])
def test_a_kill_after_the_last_epoch_is_made_good(name, images, model_file, tmp_path, monkeypatch):
    """The next command publishes the last epoch, whichever file of it was to be written; then it is complete."""
    config = request(images, tmp_path, model_file)
    real = Folder.write

    def write(folder, path, content):
        if path.name == name and len(folder.read_state().epochs) == 3:
            raise KeyboardInterrupt
        real(folder, path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write", write)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert [line["epoch"] for line in log_of(tmp_path)[1:]] == [1, 2]
    outcome = train(config)
    assert (outcome.best["epoch"], len(outcome.epochs)) == (3, 3)
    assert (tmp_path / "best.safetensors").read_bytes() == (tmp_path / "epochs/03.safetensors").read_bytes()
    assert [line["epoch"] for line in log_of(tmp_path)[1:]] == [1, 2, 3]
    assert train(config).was_complete


def test_a_lost_best_checkpoint_is_written_again(images, model_file, tmp_path):
    """By the same command, of a training that is complete otherwise; where its epoch is lost, too, that is said."""
    config = request(images, tmp_path, model_file)
    train(config)
    best, last = tmp_path / "best.safetensors", tmp_path / "epochs/03.safetensors"
    best.unlink()
    train(config)
    assert best.read_bytes() == last.read_bytes()
    best.unlink()
    last.unlink()
    with pytest.raises(RunError, match=r"cannot read .*03\.safetensors"):
        train(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overrides": {"epochs": 4, "batch_size": 4}}, "recipe.epochs was 3, is now 4"),
        ({"constants": {"k": 3}}, "constants.k was 5, is now 3"),
        ({"start": {"image_size": 70}}, "constants.image_size was 56, is now 70"),
        ({"metric": "image_ap", "validation": True}, "metric was 'loss', is now 'image_ap'"),
    ],
)
def test_another_training_needs_another_folder(changes, words, images, model_file, validated_on, tmp_path):
    """What differs is named, before any image is read."""
    train_here(request(images, tmp_path, model_file, overrides={"epochs": 3, "batch_size": 4}))
    if "start" in changes:
        changes = {"start": Start(model=str(model_file), **changes["start"])}
    if "validation" in changes:
        changes = changes | {"validation": Data(name="plain", uri=str(validated_on))}
    with pytest.raises(InputError, match=words):
        prepare(request(images, tmp_path, model_file, **changes))


def test_other_images_need_another_folder(model_file, tmp_path, monkeypatch):
    """Of other names they are seen in the listing; changed under the same names, by the hash."""
    root = write_images(tmp_path / "parts")
    config = request(root, tmp_path / "out", model_file)
    stop_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train_here(config)
    changed = write_images(tmp_path / "changed", seed=1) / "part/test/good/0.png"
    shutil.copy(changed, root / "part/test/good/0.png")
    with pytest.raises(InputError, match=r"auxiliary_dataset.hash was '\w+', is now '\w+'"):
        train_here(config)
    (root / "part/test/good/0.png").unlink()
    with pytest.raises(InputError, match=r"listed.auxiliary was 'parts, 11 images"):
        prepare(config)


def test_one_process_at_a_time_writes(images, model_file, tmp_path, monkeypatch):
    """A second training in the same folder is told."""
    monkeypatch.setattr(folders, "_WAIT_S", 0.0)
    with Folder.at(str(tmp_path)).claimed(), pytest.raises(ClaimError, match="another process trains"):
        train_here(request(images, tmp_path, model_file))


def test_a_damaged_state_is_not_used(images, model_file, tmp_path):
    """It is said; nothing is overwritten."""
    config = request(images, tmp_path, model_file)
    train_here(config)
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-10])
    with pytest.raises(RunError, match=r"state.safetensors cannot be read"):
        train_here(config)


def test_differences_are_named_from_the_top():
    """Of what both know; nested names with dots."""
    known, now = {"a": {"b": 1, "c": 2}, "d": None, "e": 1}, {"a": {"b": 1, "c": 3}, "d": "x", "f": 1}
    assert list(differences(known, now)) == ["a.c was 2, is now 3", "d was None, is now 'x'"]


def test_the_best_epoch():
    """The lowest loss, the highest metric; the first of equal ones."""
    epochs = [
        {"epoch": 1, "loss": 3.0, "metrics": {"aupro": 0.5}},
        {"epoch": 2, "loss": 2.0, "metrics": {"aupro": 0.7}},
        {"epoch": 3, "loss": 1.0, "metrics": {"aupro": 0.7}},
    ]
    assert best_of(epochs, "loss")["epoch"] == 3
    assert best_of(epochs, "aupro")["epoch"] == 2


def test_a_loss_that_is_no_number_stops_the_training():
    """And says what might help."""
    with pytest.raises(RunError, match=r"epoch 2: the loss is nan.*--learning-rate"):
        epoch_record(2, EpochLosses({}, math.nan), {}, seconds=1, chosen_by="loss")
