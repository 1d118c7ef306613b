"""The package as it is imported, and the model inside it."""

import subprocess
import sys

import pytest

import cops
from cops.embedded import embedded_checkpoint


def test_every_public_name_is_there():
    """What `__all__` promises can be had, and nothing else."""
    assert all(getattr(cops, name) is not None for name in cops.__all__)
    with pytest.raises(AttributeError, match="no attribute 'detect'"):
        _ = cops.detect


def test_maps_cost_no_torch():
    """CPU tasks that only draw maps do not load the model's libraries."""
    script = "import sys, cops.maps; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_embedded_file_is_what_its_module_writes():
    """The packaged weights can be made again from their seed."""
    packaged, made = cops.read_checkpoint("embedded"), embedded_checkpoint()
    assert packaged.config == made.config
    assert packaged.provenance == made.provenance
    assert all(made.tensors[name].float().allclose(tensor, atol=1e-3) for name, tensor in packaged.tensors.items())
