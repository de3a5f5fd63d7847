"""The edge of the process: its first moment, one command line, and how that ends."""

import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import NoReturn

LOST = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "CUDNN_STATUS", "NCCL error", "no CUDA-capable device")


def main() -> NoReturn:
    """The command line; Ctrl-C while it loads ends it without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    import os

    from embprobe import threads

    threads.settle(os.environ)
    respond()


def respond(command: Callable[[], object] | None = None) -> NoReturn:
    """Runs one command line, or what a worker does; every failure is one line and an exit code (see errors.py)."""
    from embprobe import console, signals
    from embprobe.errors import EmbprobeError, Interrupted

    console.mend_stderr()
    try:
        if command is None:
            from embprobe.cli import app

            command = partial(app, standalone_mode=False, prog_name="embprobe")
        code = command()
        sys.exit(code if isinstance(code, int) else 0)
    except Interrupted as stop:
        console.fail(str(stop))
        if stop.signum == signal.SIGINT:
            signals.die(signal.SIGINT)
        sys.exit(stop.exit_code)
    except EmbprobeError as error:
        console.fail(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        signals.die(signal.SIGINT)
        raise
    except Exception as error:
        sys.exit(_edge(error))


def _edge(error: Exception) -> int:
    """One line for what the shell or the machine did wrong; a traceback for what is a defect of ours."""
    import errno

    from embprobe import console

    if hasattr(error, "format_message"):  # Click's and Typer's usage errors, whichever of the two raised them
        console.fail(error.format_message() or "see --help")
        return 2
    if type(error).__name__ == "Abort":
        console.fail("nothing done")
        return 2
    number, file = (error.errno, error.filename or "all of it") if isinstance(error, OSError) else (None, None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        console.fail(f"no space left to write {file}; free some and run the same command again, it continues")
        return 1
    if number in (errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM):
        console.fail(f"{error.strerror}: {file}")  # type: ignore[attr-defined]
        return 1
    if number in (errno.ENAMETOOLONG, errno.ELOOP):
        console.fail(f"{str(file)[:60]}… can't be opened; its name is too long, or it is a link to itself")
        return 2
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "allocate memory" in str(error):
        console.fail(
            "out of memory; a smaller --forward needs less where there is one, a smaller --batch asks something else"
        )
        return 1
    if type(error).__name__ == "AcceleratorError" or any(sign in str(error) for sign in LOST):
        console.fail(
            f"the GPU failed ({str(error).splitlines()[0]}); nothing on the disk is lost: run the same command again, on "
            "another GPU or machine if it comes back (nvidia-smi and the system's log tell more)"
        )
        return 1
    console.trace(error)
    console.fail("this is a defect of embprobe; please report it with the lines above")
    return 1


if __name__ == "__main__":
    main()
