"""Ray on this machine, for one user: it listens on loopback alone, asks for a token, and keeps its files to itself."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import ray
from ray._common.utils import get_default_system_temp_dir
from ray._private import ray_constants

from cops.shown import shown
from pipeline.errors import InputError

_LOOPBACK = "127.0.0.1"
_METRICS_PORT = "COPS_METRICS_PORT"
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # what makes Ray take an address that other machines reach


log = logging.getLogger(__name__)


def start_local_ray(packages: Path, *, object_store_memory: int) -> None:
    """Start Ray for this process. `packages` is the folder that workers import `cops` and `pipeline` from.

    Raises:  InputError: the folder for its sockets and logs is somebody else's; the port for metrics is none.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Stages take fractions of a CPU, so there are more workers than CPUs. Ray would end each that idles for a second,
    # and starting one takes two seconds of a processor.
    os.environ.setdefault("RAY_num_workers_soft_limit", str(4 + 2 * (os.cpu_count() or 1)))
    # Not as a runtime_env, whose making takes a second and a half before the first worker starts.
    on_path = [str(packages), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(on_path))
    _have_token()
    with _loopback_alone():
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=object_store_memory,
            logging_level=logging.ERROR,
            _node_ip_address=_LOOPBACK,
            _metrics_export_port=metrics_port(),
            _temp_dir=str(private_folder(Path(get_default_system_temp_dir())) / "ray"),
        )


def private_folder(parent: Path) -> Path:
    """A folder that this user alone may enter, the same in every run: Ray lets everybody write into those it makes.

    Raises:  InputError: something else has its name.
    """
    folder = parent / f"ray-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o077:
        raise InputError(
            f"{folder}: expected a folder that you alone may enter (mode 700), for Ray's sockets and logs. "
            "Remove it, or name another place by RAY_TMPDIR"
        )
    return folder


def metrics_port() -> int | None:
    """Where on loopback Prometheus looks for this run's metrics, if it is told where; without, Ray takes any port.

    Of two jobs at once the second has another one: Ray would not start on a port that is taken.
    Raises:  InputError: what is asked for is no port.
    """
    asked = os.environ.get(_METRICS_PORT, "")
    if not asked:
        return None
    if not (asked.isascii() and asked.isdigit() and 0 < int(asked) < 2**16):
        raise InputError(f"{_METRICS_PORT}: expected a port, 1 to 65535; got {shown(asked[:20])}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Ray's server does
        try:
            probe.bind((_LOOPBACK, int(asked)))
        except OSError as exc:
            log.warning(
                "%s: port %s cannot be had (%s); metrics are on another one", _METRICS_PORT, asked, exc.strerror
            )
            return None
    return int(asked)


def _have_token() -> None:
    """What a client must know. Ray asks for one unless RAY_AUTH_MODE is `disabled`; its own lies in a file for all."""
    if not os.environ.get("RAY_AUTH_TOKEN") and not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextlib.contextmanager
def _loopback_alone() -> Iterator[None]:
    """Ray keeps the address of loopback, where it would look for the one that other machines reach."""
    variable, constant = os.environ.get(_CLUSTERS), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[_CLUSTERS] = "0"  # for the processes that it starts
    ray_constants.ENABLE_RAY_CLUSTER = False  # for this one, which read the variable when it imported Ray
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant
        if variable is None:
            del os.environ[_CLUSTERS]
        else:
            os.environ[_CLUSTERS] = variable
