"""What a run on this machine opens to the network and to other users: nothing."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from real_parts import ROOT, clean_environment, descendants, score_command

_LISTENS = "0A"  # the state, in /proc/net/tcp


def listeners() -> dict[str, ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The address that each listening TCP socket of this machine is bound to, by the socket's inode."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENS:
                words = bytes.fromhex(fields[1].partition(":")[0])  # 32-bit words of this machine's byte order
                swapped = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
                found[fields[9]] = ipaddress.ip_address(words if sys.byteorder == "big" else swapped)
    return found


def sockets_of(pid: int) -> set[str]:
    """Inodes of a process' sockets."""
    try:
        links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return set()
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    inner = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1
    return (inner or address).is_loopback


def test_every_socket_of_a_run_is_on_loopback(archives: Path, tmp_path: Path) -> None:
    """From Ray's start to the commit, of the job and of everything that it starts."""
    images, output = str(archives / "images/images"), str(tmp_path / "out")
    seen, abroad = set(), set()
    command = score_command("--input", images, "--output", output, "--run-id", "r")
    with subprocess.Popen(
        command, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as job:
        while job.poll() is None:
            found = listeners()
            for pid in list(descendants(job.pid)):
                for inode in sockets_of(pid) & found.keys():
                    seen.add(inode)
                    if not is_loopback(found[inode]):
                        abroad.add(str(found[inode]))
            time.sleep(0.1)
    assert job.returncode == 0
    assert len(seen) >= 8  # GCS, raylet, agents and workers: the test would see others, too
    assert not abroad


_HOLD = """
import sys, ray
from pipeline.execution import connect
connect()
print(ray.get_runtime_context().gcs_address, ray._private.worker._global_node.address_info["session_dir"], flush=True)
sys.stdin.read()
"""
_ASK = """
import sys
from ray._raylet import GcsClient
print("keys", len(GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None, timeout=10)))
"""


@contextmanager
def ray_of_ours() -> Iterator[tuple[str, Path, int]]:
    """(address, folder of sockets and logs, process) of a Ray that the pipeline started."""
    environment = clean_environment(PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", _HOLD]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin and process.stdout
        try:
            address, folder = process.stdout.readline().split()
            yield address, Path(folder), process.pid
        finally:
            process.stdin.close()


def ask(address: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A client of Ray's asks for the names in its store, where functions to run are kept, too."""
    command = [sys.executable, "-c", _ASK, address]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env=clean_environment(**environment)
    )


def token_of(pid: int) -> str:
    """What only this user may read of a process."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next(text.partition(b"=")[2].decode() for text in variables if text.startswith(b"RAY_AUTH_TOKEN="))


def test_other_users_of_the_machine_are_kept_out() -> None:
    """They reach loopback, too: a client without the run's own token is refused, and the sockets' folder is closed."""
    with ray_of_ours() as (address, folder, pid):
        token = token_of(next(child for child in descendants(pid) if child != pid))
        assert ask(address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token).stdout.startswith("keys")
        for stranger in ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_MODE": "disabled"}):
            refused = ask(address, **stranger)
            assert (refused.returncode, refused.stdout) == (1, "")
            assert "AuthenticationError" in refused.stderr
        assert len(token) == 64
        assert any(above.stat().st_mode & 0o777 == 0o700 for above in folder.parents)
