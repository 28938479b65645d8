"""The rules of Windows and of PyPy, as far as a CPython on POSIX can hold itself to them.

What Windows lacks is taken away before bide is imported: the modules, the functions of ``os`` and the arguments of
``mmap`` that only POSIX has. PyPy's rules: nothing depends on a reference count, and the twin runs with the garbage
collector switched off. That neither is a run on the real thing is said in docs/install.md.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bide

PACKAGE = Path(bide.__file__).parent

WITHOUT_POSIX = """
import sys

for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog", "posixshmem", "_posixshmem"):
    sys.modules[name] = None  # type: ignore[assignment]

import mmap, os, signal

POSIX_ONLY = '''
chown chroot ctermid fchmod fchown fork forkpty fpathconf fstatvfs getegid geteuid getgid getgroups getpgid getpgrp
getpriority getresgid getresuid getsid getuid killpg lchown lockf mkfifo mknod openpty pathconf pipe2 posix_fadvise
posix_fallocate posix_openpt posix_spawn posix_spawnp pread preadv pwrite pwritev readv register_at_fork
sched_getaffinity sched_yield sendfile setegid seteuid setgid setgroups setpgid setpriority setregid setresgid
setresuid setreuid setsid setuid statvfs sync tcgetpgrp tcsetpgrp ttyname uname wait wait3 wait4 waitid writev
O_CLOEXEC O_DIRECTORY O_DSYNC O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC
'''.split()
for name in POSIX_ONLY:
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "setitimer", "pthread_kill"):
    if hasattr(signal, name):
        delattr(signal, name)
for name in ("MAP_SHARED", "MAP_PRIVATE", "MAP_ANON", "MAP_ANONYMOUS", "MAP_POPULATE", "PROT_READ", "PROT_WRITE"):
    if hasattr(mmap, name):
        delattr(mmap, name)

Mapping = mmap.mmap


def on_windows(fileno, length, tagname=None, access=0, offset=0):
    return Mapping(fileno, length, access=access, offset=offset) if access else Mapping(fileno, length, offset=offset)


mmap.mmap = on_windows
"""

USE = """
import bide

limiter = bide.Limiter("2/minute", "100/hour")
assert [limiter.try_acquire("a key") for _ in range(3)] == [True, True, False]
outcome = limiter.take("another key")
assert limiter.refund("another key", outcome)
assert list(limiter.try_acquire_many(["b", "b", "b"])) == [True, True, False]
with bide.Limiter("1/minute").slot("a key"):
    pass
for policy in bide.policies.names():
    decision = bide.decide(bide.Reply(429, {"Retry-After": "7"}), bide.policies.load(policy), draw=0.0)
    assert decision.action.value in ("retry", "defer", "fail", "process")
assert bide.decide(bide.Reply(503, {"Retry-After": "7"}), draw=0.0).wait == 7.0
for module in sorted(bide._MODULES):
    getattr(bide, module)
print(bide.IMPLEMENTATION)
"""


def run(program: str, *options: str, **environ: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "BIDE_PURE"} | environ
    command = [sys.executable, *options, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("pure", ["1", "0"])
def test_limiter_policies_and_every_module_work_without_what_only_posix_has(pure: str) -> None:
    assert run(WITHOUT_POSIX + USE, BIDE_PURE=pure) == ("pure" if pure == "1" else bide.IMPLEMENTATION)


def test_what_is_taken_away_is_missed_by_a_program_that_needs_it() -> None:
    with pytest.raises(AssertionError, match=r"import of fcntl halted"):
        run(WITHOUT_POSIX + "import fcntl")
    with pytest.raises(AssertionError, match="has no attribute 'register_at_fork'"):
        run(WITHOUT_POSIX + "os.register_at_fork(before=print)")
    with pytest.raises(AssertionError, match="flags"):
        run(WITHOUT_POSIX + "mmap.mmap(-1, 4096, flags=1)")


def test_no_text_is_read_in_the_encoding_of_the_machine() -> None:
    """On Windows that is not UTF-8: every text file is opened with its encoding."""
    options = ("-X", "warn_default_encoding", "-W", "error::EncodingWarning")
    run("import encodings.utf_8\n" + USE, *options)


def test_the_twin_needs_no_reference_counts() -> None:
    """PyPy frees an object when it likes: with the collector off, and cycles around everything, nothing changes."""
    program = """
import gc
gc.disable()
import bide
kept = []
for number in range(50):
    limiter = bide.Limiter("1/minute")
    kept.append([limiter, kept])
    assert limiter.try_acquire("a key") and not limiter.try_acquire("a key")
    with limiter.slot(f"key {number}"):
        pass
print(bide.IMPLEMENTATION)
"""
    assert run(program, BIDE_PURE="1") == "pure"


CPYTHON_ONLY = {
    "getrefcount",
    "_getframe",
    "_current_frames",
    "setdlopenflags",
    "_debugmallocstats",
    "intern",
}


@pytest.mark.parametrize(
    "source", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_source_names_what_cpython_alone_has(source: Path) -> None:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not named & CPYTHON_ONLY
