"""A process that is stuck is ended from outside, one that works is left alone."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KILLED = -signal.SIGKILL
START = """
import ctypes, os, signal, sys, time
from pipeline.watchdog import Patience, Watchdog

watchdog = Watchdog(Patience(silent_s=3, work_s=2), when_silent="silent", when_late="late")
print(watchdog.process.pid, flush=True)
"""


def run(code: str) -> tuple[int, str, int]:
    """(exit code, what was said on stderr, the watchdog's process number) of a watched process that does this."""
    command = [sys.executable, "-c", START + textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    return done.returncode, done.stderr, int(done.stdout.splitlines()[0])


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_work_that_never_ends() -> None:
    """One piece of work longer than it may take: ended, and said so; what was done before does not count."""
    code, said, _ = run("""
        for _ in range(3):
            with watchdog.piece_of_work():
                time.sleep(1)
        with watchdog.piece_of_work():
            time.sleep(60)
    """)
    assert (code, said) == (KILLED, "late\n")


def test_the_older_of_two_pieces_of_work_counts() -> None:
    """Calls at the same time: short ones beside it do not hide the one that hangs."""
    code, said, _ = run("""
        with watchdog.piece_of_work():
            while True:
                with watchdog.piece_of_work():
                    time.sleep(0.1)
    """)
    assert (code, said) == (KILLED, "late\n")


@pytest.mark.parametrize(
    "hang",
    [
        "os.kill(os.getpid(), signal.SIGSTOP)",
        "ctypes.PyDLL(None).sleep(60)",  # a call into C that lets no other thread run
    ],
)
def test_a_process_that_cannot_say_anything(hang: str) -> None:
    """Stopped, or stuck in C with Python's lock: ended, idle or not."""
    code, said, _ = run(hang)
    assert (code, said) == (KILLED, "silent\n")


def test_one_that_works_is_left_alone() -> None:
    """Idle for longer than work may take, busy with many short pieces: it ends by itself, its watchdog with it."""
    code, said, pid = run("""
        time.sleep(4)
        began = time.monotonic()
        while time.monotonic() - began < 4:
            with watchdog.piece_of_work():
                time.sleep(0.01)
    """)
    assert (code, said) == (0, "")
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)
