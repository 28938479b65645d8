"""Where a file store can be, and where it cannot: each place works, or a StoreError says what is wrong and what to do.

Places that need a full disk or a read-only file system are made in a mount namespace of their own.
"""

import os
import pickle
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import bide

pytestmark = [
    pytest.mark.skipif(bide.IMPLEMENTATION != "native", reason="the twin has no file store"),
    pytest.mark.skipif(sys.platform == "win32", reason="the file store is for POSIX systems"),
]


def refused(path: Path | str, *limits: str, **options: object) -> str:
    """What the StoreError says of a store that cannot be had; it is one line, and names the path first."""
    with pytest.raises(bide.StoreError) as caught:
        bide.Limiter(*(limits or ("2/minute",)), store=f"file://{path}", **options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


def test_a_store_is_made_whole_private_and_with_no_hole(tmp_path: Path) -> None:
    path = tmp_path / "limits.bide"
    before = os.umask(0)
    try:
        limiter = bide.Limiter("2/minute", store=f"file://{path}")
    finally:
        os.umask(before)
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_blocks * 512 >= status.st_size > 65_536 * 32
    assert os.listdir(tmp_path) == ["limits.bide"], "nothing is left of its making"
    assert repr(limiter) == f"<bide.Limiter Limit(2, 60.0), store='file://{path}', native>"


def test_no_descriptor_of_it_stays_open(tmp_path: Path) -> None:
    before = set(os.listdir("/dev/fd"))
    limiter = bide.Limiter("2/minute", store=f"file://{tmp_path}/limits.bide")
    assert limiter.try_acquire("a")
    assert set(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize(
    "write",
    [
        "file:{path}",
        "file:/{path}",
        "file://elsewhere{path}",
        "file://{path}/",
        "file://{path}?mode=1",
        "file://{path}#part",
        "file://",
        "file:///",
    ],
)
def test_a_url_that_is_written_wrong_is_a_mistake_that_says_how(tmp_path: Path, write: str) -> None:
    with pytest.raises(ValueError, match=r'write the store as "file:///run/app/limits\.bide"'):
        bide.Limiter("2/minute", store=write.format(path=f"{tmp_path}/limits.bide"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "error"), [(7, TypeError), (b"/a", TypeError), ("", ValueError), ("/a\0", ValueError)]
)
def test_a_path_that_is_none_is_a_mistake(path: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="path"):
        bide.FileStore(path)  # type: ignore[arg-type]  # the mistake under test


def test_one_file_has_several_spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "with space").mkdir()
    stores: list[str | bide.FileStore] = [
        f"file://{tmp_path}/with%20space/limits.bide",
        f"file://localhost{tmp_path}/with space/limits.bide",
        bide.FileStore(tmp_path / "with space" / "limits.bide"),
        bide.FileStore("with space/limits.bide"),
    ]
    limiters = [bide.Limiter("4/minute", store=store) for store in stores]
    assert [limiter.take("a").remaining for limiter in limiters] == [3, 2, 1, 0]


def test_a_file_that_is_removed_is_made_anew_by_the_next_opener(tmp_path: Path) -> None:
    path = tmp_path / "limits.bide"
    for _ in range(2):
        assert bide.Limiter("1/minute", store=f"file://{path}").take("a").remaining == 0
        path.unlink()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "it is a directory: give the path of a file in it"),
        (lambda path: os.mkfifo(path), "it is a socket, a pipe or a device"),
        (
            lambda path: path.symlink_to("elsewhere"),
            "it is a symbolic link: give the path of the file itself",
        ),
        (lambda path: path.touch(0o600), "it has 0 bytes, which is no whole store: remove it"),
        (lambda path: path.write_bytes(bytes(10_000)), "it holds something that is not a store of bide's"),
        (
            lambda path: path.write_bytes(b"Hello, world. " * 500),
            "not a store of bide's, or is damaged; remove it",
        ),
    ],
    ids=["directory", "pipe", "symbolic link", "empty", "zeros", "text"],
)
def test_what_is_no_store_is_left_alone_and_named(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "limits.bide"
    make(path)
    if path.is_file():
        path.chmod(0o600)
    before = os.lstat(path)
    assert words in refused(path)
    assert os.lstat(path)[:7] == before[:7]


def test_a_symbolic_link_to_a_store_is_none_but_one_on_the_way_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert bide.Limiter("1/minute", store=f"file://{tmp_path}/link/limits.bide").try_acquire("a")
    (tmp_path / "limits.bide").symlink_to("real/limits.bide")
    assert "symbolic link" in refused(tmp_path / "limits.bide")


def test_a_socket_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("limits.bide")
        assert "a socket" in refused(tmp_path / "limits.bide")


def test_a_missing_directory_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    assert refused(tmp_path / "no" / "limits.bide") == (
        f"the directory {tmp_path}/no does not exist: mkdir -p -m 700 {tmp_path}/no"
    )
    (tmp_path / "file").touch()
    assert "not a directory" in refused(tmp_path / "file" / "limits.bide")
    assert "too long" in refused(tmp_path / ("x" * 300))


def test_a_file_that_was_cut_or_copied_in_part_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "limits.bide"
    bide.Limiter("2/minute", store=f"file://{path}")
    whole = path.read_bytes()
    for size in (1, 4_095, 4_096, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert "remove it" in refused(path)
        assert path.stat().st_size == size
    path.write_bytes(whole + b"\0")
    assert f"it has {len(whole) + 1} bytes and a whole one has {len(whole)}" in refused(path)


@pytest.mark.parametrize("word", [0, 1, 2, 3, 5, 6, 16, 17])
def test_a_damaged_header_is_refused(tmp_path: Path, word: int) -> None:
    path = tmp_path / "limits.bide"
    bide.Limiter("2/minute", store=f"file://{path}")
    with path.open("r+b") as file:
        file.seek(8 * word)
        octets = file.read(8)
        file.seek(8 * word)
        file.write(bytes([octets[0] ^ 1]) + octets[1:])
    text = refused(path)
    assert "use another path" in text
    assert ("made by version 3" if word == 1 and octets[4] == 3 else "damaged" if word != 1 else "") in text


def test_a_store_of_another_version_is_told_apart_from_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "limits.bide"
    bide.Limiter("2/minute", store=f"file://{path}")
    with path.open("r+b") as file:
        file.seek(8)
        octets = file.read(8)
        file.seek(8)
        version = int.from_bytes(octets, sys.byteorder) + (1 << 32)
        file.write(version.to_bytes(8, sys.byteorder))
    assert "it was made by version 3 of the layout, this bide has 2" in refused(path)


@pytest.mark.parametrize(
    ("limits", "options", "words"),
    [
        (("2/hour",), {}, "made for limits with windows of 60 seconds"),
        (("2/minute", "9/hour"), {}, "made for limits with windows of 60 seconds"),
        (("2/minute",), {"max_keys": 10}, "made for max_keys=65536 and not for 10"),
    ],
)
def test_another_window_or_size_on_one_file_is_refused(
    tmp_path: Path, limits: tuple[str, ...], options: dict[str, object], words: str
) -> None:
    path = tmp_path / "limits.bide"
    bide.Limiter("2/minute", store=f"file://{path}")
    assert words in refused(path, *limits, **options)
    assert bide.Limiter("7/minute", store=f"file://{path}").take("a").remaining == 6, "another number is fine"


def test_the_windows_of_several_limits_count_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "limits.bide"
    limiter = bide.Limiter("2/second", "9/hour", store=f"file://{path}")
    assert "windows of 1, 3600 seconds" in refused(path, "9/hour", "2/second")
    other = bide.Limiter("5/second", "9/hour", store=f"file://{path}")
    assert limiter.try_acquire("a", 2)
    assert other.take("a", 3).remaining == 0


def test_each_process_applies_a_limit_of_its_own_to_the_common_count(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/limits.bide"
    old, new = bide.Limiter("3/minute", store=url), bide.Limiter("5/minute", store=url)
    assert [old.try_acquire("a") for _ in range(4)] == [True, True, True, False]
    assert [new.try_acquire("a") for _ in range(3)] == [True, True, False]
    assert old.peek("a").remaining == 0


def test_one_store_object_serves_limiters_that_fit_each_other(tmp_path: Path) -> None:
    store = bide.FileStore(tmp_path / "limits.bide")
    one, other = (bide.Limiter("2/minute", store=store, name=name) for name in ("a", "b"))
    assert one.try_acquire("a", 2)
    assert other.try_acquire("a", 2), "the names set them apart"
    with pytest.raises(bide.StoreError, match="other windows"):
        bide.Limiter("2/hour", store=store)
    with pytest.raises(bide.StoreError, match="another max_keys"):
        bide.Limiter("2/minute", store=store, max_keys=9)


def test_a_store_object_goes_to_another_process_as_its_path(tmp_path: Path) -> None:
    store = bide.FileStore(tmp_path / "limits.bide")
    limiter = bide.Limiter("2/minute", store=store)
    arrived = pickle.loads(pickle.dumps(store))
    assert bide.Limiter("2/minute", store=arrived).try_acquire("a", 2)
    assert not limiter.try_acquire("a")


def test_a_store_on_a_callers_clock_is_not_one_on_the_systems(tmp_path: Path) -> None:
    from bide.testing import FakeClock

    bide.Limiter("2/minute", store=f"file://{tmp_path}/fake.bide", clock=FakeClock())
    assert "made for a caller's clock" in refused(tmp_path / "fake.bide")
    bide.Limiter("2/minute", store=f"file://{tmp_path}/system.bide")
    assert "made for the system's clock" in refused(tmp_path / "system.bide", clock=FakeClock())


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o606])
def test_a_file_that_others_may_open_is_refused_with_the_command_that_helps(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "limits.bide"
    bide.Limiter("2/minute", store=f"file://{path}")
    path.chmod(mode)
    assert refused(path) == f"others than its owner may open it (mode {mode:o}): chmod 600 {path}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_refused_even_by_root(tmp_path: Path) -> None:
    path = tmp_path / "limits.bide"
    bide.Limiter("2/minute", store=f"file://{path}")
    os.chown(path, 12_345, -1)
    assert refused(path).startswith(f"it belongs to user 12345 and this process runs as user {os.geteuid()}")


def in_namespace(setup: str, path: str, tmp_path: Path, program: str = "") -> str:
    """What a process says that opens a store where ``setup`` has been run, as root of a mount namespace of its own."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no unshare here")
    program = program or (
        "import bide, sys\n"
        "try:\n"
        f"    print(bide.Limiter('2/minute', store='file://{path}').try_acquire('a'))\n"
        "except bide.StoreError as error:\n"
        "    print(error)\n"
    )
    script = f'{setup} && exec "{sys.executable}" -c "$PROGRAM"'
    flags = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    command = [unshare, *flags, "sh", "-c", script]
    ran = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PROGRAM": program},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0 and "unshare" in ran.stderr:
        pytest.skip(f"no mount namespace can be had here: {ran.stderr.strip()}")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_a_full_disk_is_told_when_the_store_is_made_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    path = f"{tmp_path}/full/limits.bide"
    setup = f"mount -t tmpfs -o size=1m none {tmp_path}/full"
    program = (
        "import bide, os\n"
        "try:\n"
        f"    bide.Limiter('2/minute', store='file://{path}')\n"
        "except bide.StoreError as error:\n"
        f"    print(error, os.listdir('{tmp_path}/full'))\n"
        f"print(bide.Limiter('2/minute', max_keys=1000, store='file://{path}').try_acquire('a'))\n"
    )
    said = in_namespace(setup, path, tmp_path, program)
    assert said == f"{path}: the disk is full: make room, or use another place, such as /dev/shm []\nTrue"


def test_a_reset_on_a_disk_that_has_become_full_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    path = f"{tmp_path}/full/limits.bide"
    program = (
        "import bide, os\n"
        "from bide.cli import main\n"
        f"limiter = bide.Limiter('2/minute', max_keys=10000, store='file://{path}')\n"
        "print(limiter.try_acquire('a', 2))\n"
        f"print(main(['store', 'reset', '{path}']), limiter.try_acquire('a'), os.listdir('{tmp_path}/full'))\n"
    )
    said = in_namespace(f"mount -t tmpfs -o size=600k none {tmp_path}/full", path, tmp_path, program)
    assert said == "True\n1 False ['limits.bide']"


def test_a_read_only_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "frozen").mkdir()
    path = f"{tmp_path}/frozen/limits.bide"
    said = in_namespace(f"mount -t tmpfs -o ro none {tmp_path}/frozen", path, tmp_path)
    assert said.startswith(f"{path}: the file system is read-only: use a directory that can be written to")
    bide.Limiter("2/minute", store=f"file://{path}")
    said = in_namespace(f"mount --bind {tmp_path}/frozen {tmp_path}/frozen && "
                        f"mount -o remount,bind,ro {tmp_path}/frozen", path, tmp_path)  # fmt: skip
    assert said.startswith(f"{path}: the file system is read-only")


def test_a_file_size_limit_is_told(tmp_path: Path) -> None:
    path = f"{tmp_path}/limits.bide"
    program = (
        "import bide, resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        f"    bide.Limiter('2/minute', store='file://{path}')\n"
        "except bide.StoreError as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == (
        f"{path}: the system limits the size of files (ulimit -f): raise that, or pass a smaller max_keys"
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_place_that_belongs_to_another_user_is_told(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(0o755)
    program = (
        "import bide, os\n"
        f"bide.Limiter('2/minute', store='file://{tmp_path}/loaded.bide')\n"  # what this loads, he may not read
        "os.seteuid(12345)\n"
        "for name in ('made.bide', 'new.bide'):\n"
        "    try:\n"
        f"        bide.Limiter('2/minute', store=f'file://{private}/{{name}}')\n"
        "    except bide.StoreError as error:\n"
        "        print(str(error).partition(': ')[2])\n"
    )
    bide.Limiter("2/minute", store=f"file://{private}/made.bide")
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    made, new = ran.stdout.splitlines()
    assert made.startswith("it belongs to user 0 and this process runs as user 12345")
    assert new.startswith("this process may not open or make it")


def test_without_nameless_files_it_is_made_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    url = f"file://{tmp_path}/limits.bide"
    one, other = bide.Limiter("2/minute", store=url), bide.Limiter("2/minute", store=url)
    assert one.take("a").remaining == 1
    assert other.take("a").remaining == 0
    from bide.limiter.stores.file import reset

    reset(f"{tmp_path}/limits.bide")
    assert other.take("a").remaining == 1
    assert one.take("a").remaining == 0
    assert os.listdir(tmp_path) == ["limits.bide"]


def test_a_hole_is_filled_before_anything_is_written_into_it(tmp_path: Path) -> None:
    path, copy = tmp_path / "limits.bide", tmp_path / "copy.bide"
    bide.Limiter("2/minute", store=f"file://{path}").try_acquire("a")
    with path.open("rb") as whole, copy.open("wb") as sparse:
        os.fchmod(sparse.fileno(), 0o600)
        header = whole.read(4096)
        sparse.write(header)
        sparse.truncate(path.stat().st_size)
    if copy.stat().st_blocks * 512 >= copy.stat().st_size:
        pytest.skip("this file system makes no holes")
    limiter = bide.Limiter("2/minute", store=f"file://{copy}")
    assert copy.stat().st_blocks * 512 >= copy.stat().st_size
    assert limiter.try_acquire("a", 2)


def test_the_twin_has_no_file_store_and_says_so(tmp_path: Path) -> None:
    from bide.limiter._pure import Limiter

    stores: list[str | bide.FileStore] = [
        f"file://{tmp_path}/limits.bide",
        bide.FileStore(tmp_path / "limits.bide"),
    ]
    for store in stores:
        with pytest.raises(
            bide.StoreError, match=r"pure-Python limiter has no file store: install .*BIDE_PURE unset"
        ):
            Limiter("2/minute", store=store)
    assert os.listdir(tmp_path) == []


def test_a_password_in_a_url_that_no_store_has_is_not_shown() -> None:
    with pytest.raises(ValueError, match="not reddis://") as caught:
        bide.Limiter("2/minute", store="reddis://:hunter2@example.org")
    assert "hunter2" not in str(caught.value)
