"""The only file that changes what is on a disk: each function is one step, which a crash comes before or after."""

import errno
import fcntl
import os
import stat
from pathlib import Path

from embprobe.errors import DamagedError

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
END = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe without a writer would wait for ever
MOST = 1 << 40  # bytes of a file that is copied
PAGE = 4096  # bytes; what is written past the cache lies on whole ones, in memory and in the file
DIRECT = 1 << 20  # bytes of a file from which that is worth it
NO_DIRECT = (errno.EINVAL, errno.ENOTSUP, errno.EFAULT)  # file systems, and memory, that can't
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EROFS)  # file systems that can't flush a folder


# ---- reading


def open_plain(path: Path, flags: int = READ) -> int:
    """A descriptor of a plain file. Raises DamagedError for a link, pipe, device or folder in its place."""
    try:
        fd = os.open(path, flags, 0o644)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise DamagedError(f"{path} is no plain file (a link, pipe or folder); remove it") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise DamagedError(f"{path} is no plain file (a link, pipe or folder); remove it")
    return fd


def read(path: Path, most: int) -> bytes:
    """All bytes of a plain file. Raises DamagedError if it is none, or holds more than `most`."""
    with os.fdopen(open_plain(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise DamagedError(f"{path} has {size:,} bytes, and {most:,} are the most it can have")
        return file.read()


# ---- changing


def create(path: Path, data: "bytes | memoryview") -> None:
    """A new file with these bytes, flushed; large ones that lie on whole pages in memory go past the cache."""
    fd = os.open(path, NEW, 0o644)
    try:
        view = memoryview(data).cast("B")
        _write(fd, view[_write_past_cache(fd, view) :])
        os.fsync(fd)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(fd)


def append(path: Path, line: bytes) -> None:
    """Adds a line at a file's end, not flushed; one that was cut off there is marked, so that nobody takes it for whole."""
    fd = open_plain(path, END)
    try:
        end = os.fstat(fd).st_size
        torn = end > 0 and os.pread(fd, 1, end - 1) != b"\n"
        _write(fd, b"\0\n" * torn + line + b"\n")
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(fd)


def sync(path: Path) -> None:
    """Flushes a file, or the names in a folder."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(fd)


def make_folder(path: Path) -> bool:
    """Makes one folder; whether it was not there."""
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise DamagedError(f"{path} is no folder, and should be one; remove it") from None
        return False
    return True


def rename(path: Path, target: Path) -> None:
    """Moves a file or folder, over what is there. Raises DamagedError for a folder in a file's place."""
    try:
        path.rename(target)
    except IsADirectoryError:
        raise DamagedError(f"{target} is a folder, and should be a file; remove it") from None


def link(path: Path, target: Path) -> None:
    """A second name of a file; the bytes copied where the file system has no such thing."""
    try:
        os.link(path, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        create(target, read(path, MOST))


def point(path: Path, target: Path) -> None:
    """A symbolic link at `path`."""
    path.symlink_to(target)


def unlink(path: Path) -> None:
    """Removes a file or a link, if it is there."""
    path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Removes a folder and all in it, or what stands in its place; links are removed, not followed."""
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            unlink(path)
            return
        entries = list(os.scandir(path))
    except FileNotFoundError:
        return
    for entry in entries:
        remove_tree(Path(entry.path))
    remove_folder(path)


def remove_folder(path: Path) -> None:
    """Removes a folder that is empty; one that is not, or not there, stays."""
    try:
        path.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise


def _write(fd: int, data: "bytes | memoryview") -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


def _write_past_cache(fd: int, view: memoryview) -> int:
    """Writes the whole pages of large data straight to the device; how many bytes: 0 where that can't be done."""
    whole = len(view) // PAGE * PAGE
    if whole < DIRECT or not hasattr(os, "O_DIRECT"):
        return 0
    import numpy as np  # what is large came from an array

    if np.frombuffer(view, np.uint8).ctypes.data % PAGE:
        return 0
    flags, done = fcntl.fcntl(fd, fcntl.F_GETFL), 0
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        while done < whole:
            done += os.write(fd, view[done:whole])
    except OSError as error:
        if error.errno not in NO_DIRECT:
            raise
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
    return done
