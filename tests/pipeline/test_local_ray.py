"""Where Ray on this machine keeps its sockets and logs: out of other users' reach."""

import os
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.local_ray import private_folder


def test_the_folder_is_closed_to_others(tmp_path: Path) -> None:
    """Whatever the umask; a second run has the same one."""
    before = os.umask(0)
    try:
        folder = private_folder(tmp_path)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert private_folder(tmp_path) == folder


def open_to_all(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)


def leads_elsewhere(folder: Path) -> None:
    folder.with_name("elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")


@pytest.mark.parametrize("prepare", [open_to_all, leads_elsewhere, Path.touch])
def test_what_somebody_else_may_have_put_there_is_refused(tmp_path: Path, prepare) -> None:
    """A folder that others may enter, a link, a file: the error names it and the way out."""
    prepare(tmp_path / f"ray-{os.getuid()}")
    with pytest.raises(InputError, match=f"{tmp_path}/ray-.*you alone.*RAY_TMPDIR"):
        private_folder(tmp_path)


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mode may be the right one."""
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    (tmp_path / f"ray-{me + 1}").mkdir(mode=0o700)
    with pytest.raises(InputError, match="you alone"):
        private_folder(tmp_path)
