"""Stops on request: a signal is noted when it comes and acted on at the next whole chunk or step."""

import os
import signal
from types import FrameType

from embprobe.errors import Interrupted

_received: list[int] = []


def install() -> None:
    """Notes SIGTERM, SIGUSR1 and the first Ctrl-C; a second Ctrl-C stops at once."""
    for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(signum, _note)


def _note(signum: int, frame: FrameType | None) -> None:
    if signum == signal.SIGINT and signal.SIGINT in _received:
        die(signum)
    _received.append(signum)


def requested() -> bool:
    """Whether a signal has asked to stop."""
    return bool(_received)


def check() -> None:
    """Raises Interrupted when a signal has asked to stop; call it where everything done so far is on disk."""
    if _received:
        name = signal.Signals(_received[0]).name
        raise Interrupted(f"stopped by {name}; run the same command again to continue", _received[0])


def die(signum: int) -> None:
    """Ends this process by the signal itself, so that a shell loop around it stops too."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
