"""The file store: a limiter's tables in a memory-mapped file, for all processes of one machine.

Theory of operation
- A store gets its name only when it is whole: made as a nameless file (or under another name), allocated in full so
  that no later write can meet a full disk, synced, then linked. Of several makers one wins, the others open its file;
  one that is killed leaves nothing behind.
- The memory that a limiter works on is an anonymous mapping, over which the file is laid. Nothing is locked and no
  system call is made after that: processes meet in the words alone, as threads do.
- Time goes on over a reboot. The header says which boot its clock belongs to; the first opener in another one sets it
  by the wall time gone by. A time namespace shifts the monotonic clock by an offset that the system tells.
- ``reset`` marks the old file and renames a new one into its place. Every call of a limiter compares one word of the
  header, which the mark changes; who finds it lays the new file over the old one and goes on where it was.
- What changes a header (a reset, a new boot) is done under ``flock``, which the kernel ends with its holder: whoever
  comes next finds what is left to do by looking, and does it.

Rules of this file: a file is never truncated, and never written to but by a limiter's words and the header. What is
wrong with a place is a ``StoreError`` that names the path, the reason, and what to do.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from bide.errors import StoreError
from bide.limiter._arguments import nanoseconds_of
from bide.limiter._limit import LocalStore

if TYPE_CHECKING:
    from bide._native import Header
    from bide.limiter._limit import Settings
    from bide.limiter._waiting import Clock

__all__ = ["FileStore", "inspect", "path_of", "reset"]

SCHEME = "file://"
HEADER_BYTES = 4096
MODE = 0o600
ATTEMPTS = 100
LOCK_SECONDS = 5.0
"""How long one waits for another process that is resetting the store, or opening it first after a reboot."""

BOOT_ID = "/proc/sys/kernel/random/boot_id"
TIME_NAMESPACE = "/proc/self/ns/time"
TIME_OFFSETS = "/proc/self/timens_offsets"

REASONS = {
    errno.ELOOP: "it is a symbolic link: give the path of the file itself",
    errno.EISDIR: "it is a directory: give the path of a file in it",
    errno.ENOTDIR: "a part of the path is not a directory: give the path of a file in an existing directory",
    errno.ENOENT: "there is no such file",
    errno.EROFS: "the file system is read-only: use a directory that can be written to, such as /run or /dev/shm",
    errno.EACCES: "this process may not open or make it: use a directory that it can write to, or run all that share"
    " the store as one user",
    errno.ENOSPC: "the disk is full: make room, or use another place, such as /dev/shm",
    errno.EDQUOT: "this user's disk quota is used up: make room, or use another place, such as /dev/shm",
    errno.EFBIG: "the system limits the size of files (ulimit -f): raise that, or pass a smaller max_keys",
    errno.ENXIO: "it is a socket, a pipe or a device: give the path of a file",
    errno.ENODEV: "this file system cannot share memory between processes: use a local one, such as /run or /dev/shm",
    errno.ENAMETOOLONG: "the name is too long: use a shorter one",
    errno.EMFILE: "this process has too many open files: close some, or raise ulimit -n",
}


class FileStore(LocalStore):
    """A limiter's counters in a file that any processes of one machine share.

    The file is made by the first limiter that uses it, for its windows and ``max_keys``, and outlives its processes and
    a reboot. Others open it: with the same windows and the same ``max_keys``; each applies limits of its own. It needs
    the native limiter, and Linux or another POSIX system.

    Args:
        path: where the file is, or is to be: a local file system, memory by preference (``/run``, ``/dev/shm``), in a
            directory that only this user can write to. ``Limiter(store="file:///run/app/limits.bide")`` is the same.

    Attributes:
        path: the absolute path.
        buffer, max_keys, windows_ms, clock: what a limiter needs; there once the first limiter has opened it.

    Raises:
        TypeError, ValueError: the path is none.
        bide.StoreError: from ``Limiter``: the file cannot be made or used; the message says why and what to do.

    >>> import bide, tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     here = bide.Limiter("2/minute", store=bide.FileStore(f"{directory}/limits.bide"))
    ...     elsewhere = bide.Limiter("2/minute", store=f"file://{directory}/limits.bide")
    ...     [here.try_acquire("a key"), elsewhere.try_acquire("a key"), here.try_acquire("a key")]
    [True, True, False]
    """

    __slots__ = (
        "__weakref__", "_base_ns", "_identity", "buffer", "clock", "clock_offset_ns", "max_keys", "path", "tenant",
        "windows_ms",
    )  # fmt: skip

    buffer: mmap.mmap
    max_keys: int
    windows_ms: tuple[int, ...]
    clock: Clock | None
    tenant: int
    clock_offset_ns: int

    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = os.fspath(path) if isinstance(path, os.PathLike) else path
        if not isinstance(text, str):
            raise TypeError(f"path must be text or a path object, not {type(path).__name__}")
        if not text or "\0" in text or text.endswith(os.sep):
            raise ValueError(f'path must be that of a file, such as "/run/app/limits.bide", not {text!r}')
        self.path: str = os.path.abspath(text)

    @classmethod
    def from_url(cls, url: str) -> FileStore:
        """The store of ``file:///run/app/limits.bide``; percent-encoded octets are decoded."""
        return cls(path_of(url))

    def __repr__(self) -> str:
        return f"FileStore({self.path!r})"

    def __str__(self) -> str:
        return SCHEME + self.path

    def __reduce__(self) -> tuple[type[FileStore], tuple[str]]:
        """For another process: its path, to be opened there."""
        return FileStore, (self.path,)

    def open(self, given: Settings, clock: Clock | None) -> FileStore:
        """Opens the file, or makes it, for the first limiter; a later one has to fit it."""
        windows_ms = tuple(limit.window_ms for limit in given.limits)
        if hasattr(self, "buffer"):
            if (windows_ms, given.max_keys) != (self.windows_ms, self.max_keys):
                raise StoreError(
                    f"{self.path}: it is open for a limiter with other windows or another max_keys: pass the same,"
                    " or use another path"
                )
            if clock is not self.clock:
                raise StoreError(f"{self.path}: it is open for a limiter with another clock; pass that one")
            return self
        _check_system(self.path)
        from bide import _native

        tenant = _native.Header.CALLERS if clock is not None else boot_of_this_machine()
        offset_ns = 0 if clock is not None else clock_offset_ns()
        now_ns = monotonic_ns if clock is None else lambda: nanoseconds_of(clock())

        def make(buffer: mmap.mmap) -> None:
            _native.Header.make(
                buffer,
                windows_ms,
                max_keys=given.max_keys,
                tenant=tenant,
                base_ns=now_ns() - offset_ns,
                unix_ms=unix_ms(),
            )

        size = _native.buffer_size(given.max_keys, len(windows_ms))
        with opened(self.path, lambda: make_file(self.path, size, make)) as (file, header):
            if header.windows_ms != list(windows_ms) or header.max_keys != given.max_keys:
                _check_fit(self.path, header, windows_ms, given.max_keys)
            if (header.boot == _native.Header.CALLERS) != (clock is not None):
                whose = "a caller's clock" if clock is None else "the system's clock"
                raise StoreError(f"{self.path}: it was made for {whose}: use another file for this limiter")
            buffer = mmap.mmap(-1, size)
            self._lay_over(buffer, file, size)
            header = _native.Header(buffer)
            if clock is None:
                now_ms = (now_ns() - offset_ns - header.base_ns) // 1_000_000
                if now_ms >= header.LATEST_MS:
                    raise StoreError(
                        f"{self.path}: its clock has run out, more than 7 years after it was made (or the machine's"
                        f" clock is wrong): run  bide store reset {self.path}"
                    )
                header.note(max(now_ms, 0), unix_ms())
            self._base_ns, self._identity = header.base_ns, header.identity
        self.tenant, self.clock_offset_ns = tenant, offset_ns
        self.max_keys, self.windows_ms, self.clock = given.max_keys, windows_ms, clock
        self.buffer = buffer
        return self

    def _lay_over(self, buffer: mmap.mmap, file: int, size: int) -> None:
        from bide import _native

        try:
            if os.fstat(file).st_blocks * 512 < size:
                # A hole, as a copy may have: a write into it would kill the process when the disk is full.
                _native.allocate(file, size)
            _native.lay_over(buffer, file)
        except OSError as error:
            raise _failure(self.path, error) from error

    def follow(self) -> None:
        """Moves over to the file that took this one's place. Called by the limiter when its header says so."""
        from bide import _native

        with _following:
            header = _native.Header(self.buffer)
            if header.tenant == self.tenant:
                return  # another thread was here first
            if header.tenant != header.REPLACED:
                raise StoreError(
                    f"{self.path}: another kernel (a machine, virtual machine or sandbox) has taken it over: a store is"
                    " for the processes of one kernel; give each a file of its own, then restart this process"
                )
            with opened(self.path) as (file, new):
                is_mine = (new.identity, new.base_ns) == (self._identity, self._base_ns)
                if not is_mine or new.tenant != self.tenant:
                    raise StoreError(
                        f"{self.path}: another store has taken its place, not one that was made by"
                        " bide store reset: restart this process"
                    )
                self._lay_over(self.buffer, file, len(self.buffer))


def path_of(url: str) -> str:
    """The path of ``file:///run/app/limits.bide``; anything else is a ValueError that says how to write it."""
    from urllib.parse import unquote  # here, not above: it is slow to load

    path = url.removeprefix(SCHEME).removeprefix("localhost") if url.startswith(SCHEME) else ""
    if not path.startswith("/") or path.endswith("/") or "?" in path or "#" in path:
        raise ValueError(f'write the store as "file:///run/app/limits.bide" (three slashes), not {url!r}')
    return unquote(path)


_following = threading.RLock()


def _after_fork_in_child() -> None:
    # A thread that held it is not here, and what it was doing is done by whoever comes first.
    global _following
    _following = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


# Opening ---------------------------------------------------------------------------------------------------


@contextmanager
def opened(path: str, make: Callable[[], None] | None = None) -> Iterator[tuple[int, Header]]:
    """The file of that name, open, and its header: whole, this user's own, of this boot, not replaced.

    ``make`` is called when there is no file. A name that changes its file meanwhile is looked at again.
    """
    _check_system(path)
    for _ in range(ATTEMPTS):
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
        except FileNotFoundError as error:
            if make is None:
                raise StoreError(f"{path}: there is no such file") from error
            make()
            continue
        except OSError as error:
            raise _failure(path, error) from error
        try:
            _check_file(path, os.fstat(file))
            with map_header(path, file) as header:
                if header.tenant != header.CALLERS and header.tenant != boot_of_this_machine():
                    _put_right(path, file, header)
                    continue
                if header.tenant == header.REPLACED or not _is_named(path, file):
                    continue
                yield file, header
                return
        finally:
            os.close(file)
    raise StoreError(f"{path}: its file changes all the time: let one process at a time reset or replace it")


def _is_named(path: str, file: int) -> bool:
    """Whether the open file is still the one of that name."""
    with suppress(OSError):
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(file))
    return False


@contextmanager
def map_header(path: str, file: int, *, writable: bool = True) -> Iterator[Header]:
    """The header of an open file: live, or (for who may only read) as the file has it."""
    from bide import _native

    size = os.fstat(file).st_size
    if size < HEADER_BYTES:
        raise StoreError(
            f"{path}: it has {size} bytes, which is no whole store: remove it if nothing else needs it"
        )
    # A private mapping of the whole shows what others write, and can itself not be written through.
    try:
        if writable:
            memory = mmap.mmap(file, HEADER_BYTES)
        else:
            memory = mmap.mmap(file, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as error:
        raise _failure(path, error) from error
    try:
        header = _native.Header(memory)
    except ValueError as error:
        raise StoreError(
            f"{path}: {error}; remove it if nothing else needs it, or use another path"
        ) from error
    needed = _native.buffer_size(header.max_keys, len(header.windows_ms))
    if size != needed:
        raise StoreError(
            f"{path}: it has {size} bytes and a whole one has {needed}: it was cut or copied in part; remove it"
        )
    yield header


def _check_kind(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: errno.EISDIR, stat.S_IFLNK: errno.ELOOP}
        raise StoreError(f"{path}: {REASONS[kinds.get(stat.S_IFMT(status.st_mode), errno.ENXIO)]}")


def _check_file(path: str, status: os.stat_result) -> None:
    _check_kind(path, status)
    if status.st_uid != os.geteuid():
        raise StoreError(
            f"{path}: it belongs to user {status.st_uid} and this process runs as user {os.geteuid()}: run all that"
            " share the store as one user, or use another path"
        )
    if status.st_mode & 0o077:
        raise StoreError(
            f"{path}: others than its owner may open it (mode {stat.S_IMODE(status.st_mode):o}): chmod 600 {path}"
        )


def _check_fit(path: str, header: Header, windows_ms: tuple[int, ...], max_keys: int) -> None:
    if header.windows_ms != list(windows_ms):
        seconds = ", ".join(f"{window / 1_000:g}" for window in header.windows_ms)
        raise StoreError(
            f"{path}: it was made for limits with windows of {seconds} seconds: pass the same windows in the same"
            " order (another number of requests is fine), or use another path for the new ones"
        )
    raise StoreError(
        f"{path}: it was made for max_keys={header.max_keys} and not for {max_keys}: pass the same, or use another path"
    )


def _check_system(path: str) -> None:
    if not hasattr(os, "register_at_fork"):  # pragma: no cover  # no system under test lacks it
        raise StoreError(
            f'{path}: the file store needs Linux or another POSIX system; use store="memory" or "redis://..." here'
        )


def _failure(path: str, error: OSError) -> StoreError:
    reason = REASONS.get(error.errno or 0, f"{error.strerror}: use another path")
    if error.errno in (errno.EACCES, errno.EPERM):
        with suppress(OSError):
            owner = os.stat(path, follow_symlinks=False).st_uid
            if owner != os.geteuid():
                reason = (
                    f"it belongs to user {owner} and this process runs as user {os.geteuid()}: run all that share the"
                    " store as one user, or use another path"
                )
    return StoreError(f"{path}: {reason}")


# Making ----------------------------------------------------------------------------------------------------


def make_file(
    path: str,
    size: int,
    fill: Callable[[mmap.mmap], object],
    *,
    before_it_replaces: Callable[[], None] | None = None,
) -> None:
    """Makes a whole file, then gives it its name. When the name is taken, that file stays; or, with
    ``before_it_replaces``, loses it to the new one, as soon as that function has been called."""
    directory, name = os.path.split(path)
    try:
        where = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise StoreError(
            f"{path}: the directory {directory} does not exist: mkdir -p -m 700 {directory}"
        ) from error
    except OSError as error:
        raise _failure(path, error) from error
    file, temporary = -1, None
    try:
        file, temporary = _new_file(where, name)
        os.fchmod(file, MODE)  # whatever the umask is
        _allocate(file, size)
        with mmap.mmap(file, size) as buffer:
            fill(buffer)
            buffer.flush()
        os.fsync(file)
        if before_it_replaces is not None:
            # Only one process replaces at a time: what has this name was left by one that was killed.
            next_name = f".{name}.next"
            with suppress(FileNotFoundError):
                os.unlink(next_name, dir_fd=where)
            _link(where, file, temporary, next_name)
            before_it_replaces()
            os.rename(next_name, name, src_dir_fd=where, dst_dir_fd=where)
        else:
            with suppress(FileExistsError):
                _link(where, file, temporary, name)
        os.fsync(where)
    except OSError as error:
        raise _failure(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=where)
        if file >= 0:
            os.close(file)
        os.close(where)


def _new_file(where: int, name: str) -> tuple[int, str | None]:
    """A new file in that directory: nameless where that can be had, so that a killed process leaves none behind."""
    flags = os.O_RDWR | os.O_CLOEXEC
    if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
        with suppress(OSError):
            return os.open(".", flags | os.O_TMPFILE, MODE, dir_fd=where), None
    temporary = f".{name}.{os.getpid()}-{os.urandom(4).hex()}"
    return os.open(temporary, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, MODE, dir_fd=where), temporary


def _link(where: int, file: int, temporary: str | None, name: str) -> None:
    if temporary is None:
        # With a directory the call follows the link that /proc shows; the directory itself is not looked at.
        os.link(f"/proc/self/fd/{file}", name, src_dir_fd=where, dst_dir_fd=where, follow_symlinks=True)
    else:
        os.link(temporary, name, src_dir_fd=where, dst_dir_fd=where)


def _allocate(file: int, size: int) -> None:
    """All of the file's disk, now: a page that finds no room later is a SIGBUS in whoever touches it."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:  # pragma: no cover
        zeros = bytes(1 << 20)
        while size > 0:
            size -= os.write(file, zeros[:size])


# Boots and resets ------------------------------------------------------------------------------------------


def _put_right(path: str, file: int, header: Header) -> None:
    """Finishes what the header says is to be done: a reset that somebody began, or a new boot's clock."""
    with locked(path, file):
        if not _is_named(path, file):
            return
        boot = boot_of_this_machine()
        if header.boot != header.CALLERS and (
            header.boot != boot or header.tenant not in (boot, header.REPLACED)
        ):
            header.adopt(boot, monotonic_ns() - clock_offset_ns(), unix_ms())
        if header.tenant == header.REPLACED:
            make_file(path, os.fstat(file).st_size, header.renew, before_it_replaces=lambda: None)


def reset(path: str) -> None:
    """Puts an empty store in the place of the one at ``path``; those who use that one move over at their next call.

    Raises:
        bide.StoreError: there is none, or it cannot be replaced; the old one then goes on as it was.
    """
    with opened(path) as (file, header), locked(path, file):
        if not _is_named(path, file):
            return  # somebody else has just reset it
        # The mark comes before the name: whoever sees it and still finds this file knows what is to be done, so that a
        # reset that is killed in between is finished by the next call of anybody.
        size = os.fstat(file).st_size
        now_ns = monotonic_ns() - clock_offset_ns()

        def fill(buffer: mmap.mmap) -> None:
            new = header.renew(buffer)
            if header.boot != header.CALLERS and now_ns - header.base_ns >= header.LATEST_MS * 1_000_000:
                new.restart(now_ns, unix_ms())  # its clock has run out, and nobody can have it open

        make_file(path, size, fill, before_it_replaces=header.mark_replaced)


def inspect(path: str, most: int = 10) -> dict[str, Any]:
    """What is in the store at ``path``, which may be in use; reads only. Keys are named by their fingerprints alone.

    Args:
        most: how many of each limit's fullest buckets are told.

    Raises:
        bide.StoreError: there is none, or it cannot be read.
    """
    _check_system(path)
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise _failure(path, error) from error
    try:
        _check_kind(path, os.fstat(file))
        with map_header(path, file, writable=False) as header:
            clock = {header.CALLERS: "a caller's", boot_of_this_machine(): "this boot's"}.get(
                header.boot, "another boot's"
            )
            now_ms = unix_ms() - header.unix_offset_ms
            if clock == "this boot's":
                now_ms = (monotonic_ns() - clock_offset_ns() - header.base_ns) // 1_000_000
            elif clock == "another boot's":
                now_ms = max(now_ms, header.seen_ms)
            denied, reused, overflowed = header.counters
            return {
                "path": path,
                "bytes": os.fstat(file).st_size,
                "version": header.VERSION,
                "created_at": header.created_unix_ms / 1_000,
                "clock": clock,
                "replaced": header.tenant == header.REPLACED,
                "max_keys": header.max_keys,
                "denied": denied,
                "reused": reused,
                "overflowed": overflowed,
                "limits": header.census(min(max(now_ms, 0), header.LATEST_MS), most),
            }
    finally:
        os.close(file)


@contextmanager
def locked(path: str, file: int) -> Iterator[None]:
    """Alone among those who change the header, or who give the name to another file."""
    import fcntl

    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"{path}: another process has been resetting it for {LOCK_SECONDS:g} s: let it go on, or end it"
                ) from error
            time.sleep(0.002)
        except OSError as error:
            raise _failure(path, error) from error
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def boot_of_this_machine() -> int:
    """A number for this boot: 64 bits of what the kernel calls it."""
    try:
        if sys.platform == "darwin":  # pragma: no cover
            text = _sysctl("kern.bootsessionuuid")
        else:
            with open(BOOT_ID, encoding="ascii") as file:
                text = file.read()
        number = int(text.strip().replace("-", "")[:16], 16)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"the file store cannot tell this boot from another ({BOOT_ID} cannot be read): mount /proc"
        ) from error
    return min(max(number, 2), 2**64 - 2)


def _sysctl(name: str) -> str:  # pragma: no cover
    import ctypes

    buffer, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
    if ctypes.CDLL(None).sysctlbyname(name.encode(), buffer, ctypes.byref(size), None, 0) != 0:
        raise OSError(f"there is no {name}")
    return buffer.value.decode("ascii")


def clock_offset_ns() -> int:
    """How far this process's monotonic clock is ahead of the machine's: not 0 in a time namespace."""
    try:
        with open(TIME_OFFSETS, encoding="ascii") as file:
            rows = [line.split() for line in file]
        if os.readlink(TIME_NAMESPACE) != os.readlink(TIME_NAMESPACE + "_for_children"):
            raise StoreError(
                "the file store cannot tell this process's clock from the machine's, because it has just unshared its"
                " time namespace: open the store in a child"
            )
    except OSError:
        return 0  # a system that has none
    for row in rows:
        if row[0] in ("monotonic", "1"):
            return int(row[1]) * 1_000_000_000 + int(row[2])
    return 0


def monotonic_ns() -> int:
    """The clock that the native limiter reads (``time.monotonic`` is another one on some systems)."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def unix_ms() -> int:
    return time.time_ns() // 1_000_000
