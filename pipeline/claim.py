"""One run id, one run at a time: a numbered claim file, created once, that its holder keeps fresh.

A dead holder's claim is taken over by creating the next number, which the store lets one process do. Whether a
holder lives is told by its heartbeat *changing* while we watch, not by comparing clocks; a holder on this very
machine is looked up among the processes instead, so a rerun after `kill -9` need not wait.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.errors import ClaimError, InputError
from pipeline.layout import RunLayout
from pipeline.storage import create_once, write_atomic
from pipeline.store_errors import describe, with_patience

HEARTBEAT_S = 10.0
_LEAVE_S = 5.0  # for a heartbeat under way; a store that never answers is not waited for at the end
WATCH_S = 35.0  # three heartbeats and a slow store
_CLAIM = re.compile(r"claim-(\d{5,})\.json")

log = logging.getLogger(__name__)


@dataclass
class Claim:
    """Held from `take_claim` to the end of its `with` block."""

    layout: RunLayout
    number: int
    token: str
    heartbeat_s: float = HEARTBEAT_S
    lost: threading.Event = field(default_factory=threading.Event)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Claim:
        self._thread = threading.Thread(target=self._keep_fresh, name="claim-heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self.stop_renewing():
            log.warning("could not release the claim on run %s: the store does not answer", self.layout.run_id)
            return
        try:
            if not self.lost.is_set() and self.layout.root.fs.exists(_path(self.layout, self.number)):
                self._write(released=True)
        except Exception as exc:  # noqa: BLE001 -- it must not hide what ended the run; the next one watches a little
            log.warning("could not release the claim on run %s: %s", self.layout.run_id, describe(exc))

    def stop_renewing(self) -> bool:
        """For who removes the claim itself, which would be written anew. False where a heartbeat still waits for the
        store's answer: it is left behind.
        """
        self._stop.set()
        if self._thread:
            self._thread.join(_LEAVE_S)
        return not (self._thread and self._thread.is_alive())

    def check(self) -> None:
        """Raises:  ClaimError: another process has taken this run over; this one must write nothing more."""
        try:
            require_claim(self.layout, self.number)
            self._require_own()
        except ClaimError:
            self.lost.set()
            raise

    def _require_own(self) -> None:
        """Where a store lets two processes create one claim, the second's is what lies there."""
        holder = _holder(self.layout, self.number)
        if holder and holder["token"] != self.token:
            raise ClaimError(
                f"run {self.layout.run_id!r} was claimed by {holder.get('host')} (process {holder.get('pid')}) at the "
                "same moment, and the store let both; this one stops"
            )

    def _keep_fresh(self) -> None:
        while not self._stop.wait(self.heartbeat_s):
            try:
                self.check()
                self._write()
            except ClaimError:
                return
            except Exception as exc:  # noqa: BLE001 -- a store that hiccups is no reason to stop, whatever its client raises
                if not self._stop.is_set():
                    why = describe(exc)
                    log.warning("could not renew the claim on run %s, will try again: %s", self.layout.run_id, why)

    def _write(self, *, released: bool = False) -> None:
        write_atomic(self.layout.root.fs, _path(self.layout, self.number), _content(self.token, released=released))


def require_claim(layout: RunLayout, number: int) -> None:
    """One LIST.

    Raises:  ClaimError: there is a later claim than this one, or none: who took the run over has finished it.
    """
    if _latest(layout) != number:
        raise ClaimError(f"run {layout.run_id!r} was taken over by another process; this one stops")


def take_claim(layout: RunLayout, *, heartbeat_s: float = HEARTBEAT_S, watch_s: float = WATCH_S) -> Claim:
    """Become the one process that works on this run.

    Raises:  ClaimError: another process does, and gave a sign of life while we watched.
    """
    number = with_patience(lambda: _latest(layout), layout.root.uri(layout.work_dir))
    if number and not _is_over(layout, number, watch_s):
        holder = _holder(layout, number)
        raise ClaimError(
            f"run {layout.run_id!r} is being worked on by {holder.get('host')} (process {holder.get('pid')}). "
            "Wait for it, stop it, or choose another run id."
        )
    token = secrets.token_hex(8)
    try:
        path, data = _path(layout, number + 1), _content(token)
        with_patience(lambda: create_once(layout.root.fs, path, data), layout.root.uri(path))
    except FileExistsError as exc:
        raise ClaimError(f"run {layout.run_id!r} was claimed by another process at this very moment") from exc
    return Claim(layout, number + 1, token, heartbeat_s)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who claimed a run last, by its claim file.

    Args:    silent_s: since its last sign of life, by its clock and ours.   lives: whether it seems to work on the run;
             of another machine's process `take_claim` knows more, because it watches.
    """

    host: str
    pid: int
    silent_s: float
    lives: bool


def last_holder(layout: RunLayout) -> Holder | None:
    """Who claimed the run last, without waiting; None where nobody did, or its claim cannot be read."""
    number = with_patience(lambda: _latest(layout), layout.root.uri(layout.work_dir))
    try:
        claim = _holder(layout, number) if number else {}
        silent_s = max(0.0, time.time() - claim["beat"] / 1e9)
        here = claim.get("machine") is not None and claim["machine"] == _machine()
        lives = _start_of(claim["pid"]) == claim.get("process_start") if here else silent_s < WATCH_S
        released = bool(claim.get("released"))
        return Holder(host=str(claim["host"]), pid=int(claim["pid"]), silent_s=silent_s, lives=lives and not released)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _path(layout: RunLayout, number: int) -> str:
    return layout.work_path(f"claim-{number:05d}.json")


def _latest(layout: RunLayout) -> int:
    """The last claim's number, 0 where there is none. Asked once: a heartbeat comes again soon, others wait."""
    try:
        paths = layout.root.fs.ls(layout.work_dir, detail=False)
    except FileNotFoundError:
        return 0
    numbers = (_CLAIM.fullmatch(str(path).rpartition("/")[2]) for path in paths)
    return max((int(match[1]) for match in numbers if match), default=0)


def _holder(layout: RunLayout, number: int) -> dict[str, Any]:
    """What a claim says; nothing where it is gone, or damaged: its holder died while it was written."""
    try:
        return layout.read_json(_path(layout, number)) or {}
    except InputError:
        return {}


def _is_over(layout: RunLayout, number: int, watch_s: float) -> bool:
    first = _holder(layout, number)
    if not first or first.get("released"):
        return True
    if first.get("machine") and first["machine"] == _machine():
        return _start_of(first["pid"]) != first.get("process_start")
    log.warning("run %s is claimed by %s; watching %.0f s for a sign of life", layout.run_id, first["host"], watch_s)
    deadline = time.monotonic() + watch_s
    while time.monotonic() < deadline:
        time.sleep(min(1.0, watch_s / 5))
        now = _holder(layout, number)
        if not now or now.get("released"):  # gone: it has committed
            return True
        if now != first:
            return False
    return True


def _content(token: str, *, released: bool = False) -> bytes:
    pid = os.getpid()
    holder = {"token": token, "host": socket.gethostname(), "pid": pid, "machine": _machine()}
    beat = {"process_start": _start_of(pid), "beat": time.time_ns(), "released": released}
    return json.dumps(holder | beat).encode()


def _machine() -> str | None:
    """This boot and process namespace, within which a process number means one process; None where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _start_of(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None where it has ended (or there is no /proc)."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]  # a zombie: killed, and its parent has not looked yet
    except (OSError, IndexError):
        return None
