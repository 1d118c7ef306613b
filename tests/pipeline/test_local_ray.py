"""Ray on this machine: its sockets and logs are out of other users' reach; its metrics are where they are asked for."""

import logging
import os
import socket
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.local_ray import metrics_port, private_folder


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


def test_metrics_are_on_any_port_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No port is fixed that nobody asked for."""
    monkeypatch.delenv("COPS_METRICS_PORT", raising=False)
    assert metrics_port() is None
    monkeypatch.setenv("COPS_METRICS_PORT", "")
    assert metrics_port() is None


def test_metrics_on_a_port(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where it is free; where another job has it Ray would not start, so this one goes without, and says so."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        monkeypatch.setenv("COPS_METRICS_PORT", str(port))
        other.listen()
        with caplog.at_level(logging.WARNING, "pipeline.local_ray"):
            assert metrics_port() is None
        assert f"port {port} cannot be had (Address already in use)" in caplog.text
    assert metrics_port() == port


@pytest.mark.parametrize("asked", ["0", "65536", "-1", "9464 ", "http", "٩٤٦٤", "\x1b[2J"])
def test_what_is_no_port_is_wrong_use(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what was expected, and shows no control character."""
    monkeypatch.setenv("COPS_METRICS_PORT", asked)
    with pytest.raises(InputError, match="COPS_METRICS_PORT: expected a port, 1 to 65535; got ") as caught:
        metrics_port()
    assert "\x1b" not in str(caught.value)
