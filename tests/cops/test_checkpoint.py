"""Our file format: whole, checked, and the source of a model's identity."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

import cops
from cops.checkpoint import EMBEDDED_PATH, FORMAT
from cops.errors import CheckpointError
from cops.published import LEARNED


@pytest.fixture
def write(small_checkpoint, tmp_path):
    """Writes the small checkpoint with other tensors or another config, and gives its path."""

    def write(tensors=None, **changes):
        path = tmp_path / "small.safetensors"
        config = replace(small_checkpoint.config, **changes)
        cops.save_checkpoint(path, config=config, tensors=tensors or small_checkpoint.tensors, provenance={"seed": 0})
        return path

    return write


def test_round_trip_by_file_and_by_bytes(small_checkpoint, write):
    """What was saved is read, from a path as from bytes, and keeps its identity."""
    path = write()
    for source in (path, str(path), path.read_bytes()):
        read = cops.read_checkpoint(source)
        assert read.config == small_checkpoint.config
        assert read.provenance == {"seed": 0}
        assert all(read.tensors[name].equal(tensor) for name, tensor in small_checkpoint.tensors.items())
        assert read.model_id() == small_checkpoint.model_id()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_float16_is_read_as_float32(small_checkpoint, write):
    """A file may be half the size; the model computes in float32 all the same."""
    read = cops.read_checkpoint(write({name: tensor.half() for name, tensor in small_checkpoint.tensors.items()}))
    assert {tensor.dtype for tensor in read.tensors.values()} == {torch.float32}


def test_the_embedded_model_is_there_and_says_what_it_is():
    """It loads by name, is small and trained, and names how it was made."""
    model = cops.load()
    assert model.trained and not model.warnings
    assert (model.image_size, model.grid) == (288, 24)
    assert model.provenance["source"] == "jobs/make_embedded.py"
    assert EMBEDDED_PATH.stat().st_size <= 25e6


def test_no_tensor_is_copied_on_the_cpu(small_checkpoint):
    """Several processes can serve one set of weights in shared memory."""
    model = cops.from_checkpoint(small_checkpoint)
    for name, tensor in model.state_dict().items():
        assert tensor.data_ptr() == small_checkpoint.tensors[name].data_ptr(), name


CHANGES = {"k": 3, "alpha": 0.31, "beta": 0.8, "temperature": 0.08, "sigma_px": 3.0, "image_size": 70}
CHANGES |= {"swap_prototypes": False, "eot_id": 3, "pixel_mean": (0.5, 0.5, 0.5), "heads": 6}


@pytest.mark.parametrize("name", CHANGES)
def test_every_constant_changes_the_id(small_checkpoint, name):
    """A model with another constant is another model."""
    changed = replace(small_checkpoint, config=replace(small_checkpoint.config, **{name: CHANGES[name]}))
    assert changed.model_id() != small_checkpoint.model_id()


def test_every_weight_that_counts_changes_the_id(small_checkpoint):
    """One number of any tensor, but not what scoring never reads."""
    for name, tensor in small_checkpoint.tensors.items():
        changed = tensor.clone()
        changed.view(-1)[0] += 1
        tensors = small_checkpoint.tensors | {name: changed}
        same = replace(small_checkpoint, tensors=tensors).model_id() == small_checkpoint.model_id()
        assert same == (name == "logit_scale"), name


def test_remarks_and_order_do_not_change_the_id(small_checkpoint):
    """Neither the order of tensors, nor where they come from, nor a profile's name."""
    changed = cops.Checkpoint(
        config=replace(small_checkpoint.config, profile="custom", noise_seed=5),
        provenance={"source": "elsewhere"},
        tensors=dict(reversed(small_checkpoint.tensors.items())),
    )
    assert changed.model_id() == small_checkpoint.model_id()
    assert len(changed.model_id()) == 32
    assert changed.model_id("bfloat16") != changed.model_id()


def test_misfits_are_listed(small_checkpoint, write):
    """What is missing, too much and of the wrong shape, in one message."""
    tensors = dict(small_checkpoint.tensors)
    del tensors["ln_final.weight"]
    tensors |= {"extra": torch.zeros(1), f"{LEARNED}t_n": torch.zeros(3, 48)}
    with pytest.raises(CheckpointError) as caught:
        cops.read_checkpoint(write(tensors))
    for part in ("missing: ln_final.weight", "unexpected: extra", "t_n (3, 48) instead of (6, 48)"):
        assert part in str(caught.value)


def test_nan_weights_are_refused(small_checkpoint, write):
    """They would make every score NaN."""
    with pytest.raises(CheckpointError, match=r"not finite, in ln_final\.bias"):
        cops.read_checkpoint(write(small_checkpoint.tensors | {"ln_final.bias": torch.full((48,), float("nan"))}))


def test_other_files_are_refused(tmp_path, write):
    """Absent, empty, cut short, of another kind, or another's safetensors."""
    path = tmp_path / "other.safetensors"
    with pytest.raises(CheckpointError, match="No such file"):
        cops.read_checkpoint(path)
    whole = write().read_bytes()
    for content in (
        b"",
        b"\x00" * 5,
        b"PK\x03\x04" + b"x" * 100,
        whole[:500],
        whole[:-10],
        whole[:8] + b"[" + whole[9:],
    ):
        path.write_bytes(content)
        for source in (path, content):
            with pytest.raises(CheckpointError, match="no readable safetensors file"):
                cops.read_checkpoint(source)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=f"expected format '{FORMAT}', got None"):
        cops.read_checkpoint(path)
    save_file({"a": torch.zeros(1)}, path, {"format": FORMAT, "config": '{"q": 1}'})
    with pytest.raises(CheckpointError, match="damaged header: unknown constants q"):
        cops.read_checkpoint(path)


def test_a_config_that_no_model_has_is_a_checkpoint_error(write):
    """A header whose constants do not fit together names the file."""
    with pytest.raises(CheckpointError, match=r"small.safetensors.*nearest: 56"):
        cops.read_checkpoint(write(image_size=57))


def test_a_size_beyond_torchs_numbers_is_a_checkpoint_error(write):
    """A damaged header may ask for a tensor of 10²⁰ rows: one line about the file, not torch's stack."""
    with pytest.raises(CheckpointError, match=r"small.safetensors describes a model that cannot be built") as caught:
        cops.read_checkpoint(write(samples=10**20))
    assert "\n" not in str(caught.value)


def test_published_weights_are_pointed_to_the_importer(tmp_path):
    """Whoever gives a .pth learns which command turns it into a checkpoint."""
    (tmp_path / "official.pth").write_bytes(b"PK\x03\x04" + b"\xff" * 100)
    with pytest.raises(CheckpointError, match=r"jobs/import_weights\.py"):
        cops.read_checkpoint(tmp_path / "official.pth")
