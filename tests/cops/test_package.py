"""The package as it is imported, and the model inside it."""

import subprocess
import sys

import pytest

import cops


def test_every_public_name_is_there():
    """What `__all__` promises can be had, and nothing else."""
    assert all(getattr(cops, name) is not None for name in cops.__all__)
    with pytest.raises(AttributeError, match="no attribute 'detect'"):
        _ = cops.detect


def test_maps_cost_no_torch():
    """CPU tasks that only draw maps do not load the model's libraries."""
    script = "import sys, cops.maps; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
