"""What can go wrong, by who can mend it; each carries the exit code that the shell sees."""

from collections.abc import Iterable


class EmbprobeError(Exception):
    """One line for the user; subclasses say whose turn it is."""

    exit_code = 1


class UserError(EmbprobeError):
    """The request is wrong: says what, and what to do."""

    exit_code = 2


class MissingInput(UserError):
    """An input was left out, and none or several fit; once more is made, one may."""


class MachineError(EmbprobeError):
    """The machine failed: a full disk, a lost lock, a vanished device."""

    exit_code = 1


class DamagedError(EmbprobeError):
    """Stored bytes differ from their checksum."""

    exit_code = 3


class Interrupted(EmbprobeError):
    """Stopped on request, or not allowed to wait; run again to continue."""

    exit_code = 75

    def __init__(self, message: str, signum: int | None = None) -> None:
        super().__init__(message)
        self.signum = signum


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """'; did you mean "x"?' where one of `known` is close to `word`, else an empty string."""
    from difflib import get_close_matches

    close = get_close_matches(word[:100], [str(name) for name in known], n=1)
    return f'; did you mean "{close[0]}"?' if close else ""
