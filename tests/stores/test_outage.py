"""When the server is slow or gone: what each mode does, what it costs, and that it ends by itself."""

import asyncio
import importlib
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

import bide
from bide.limiter import Limiter

DEADLINE = 0.05
LATE = 0.25
"""What a loaded machine may add to a deadline."""


def on(server: Any, **options: object) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{server.kind}://127.0.0.1:{server.port}/0?prefix=t{time.monotonic_ns()}:&{query}"


def until_up(limiter: Limiter) -> None:
    """Asks until the store answers again, as a program that goes on working would."""
    deadline = time.monotonic() + 20.0
    while limiter.store.stats().is_down:
        assert time.monotonic() < deadline, "it does not come back by itself"
        try:
            limiter.peek("anything")
        except bide.StoreError:
            time.sleep(0.02)


@pytest.mark.parametrize("way", ["paused", "killed", "never there"])
def test_raise_says_what_is_wrong_and_admits_nothing(mortal: Any, way: str) -> None:
    limiter = bide.Limiter("5/hour", store=on(mortal, on_error="raise"))
    if way == "never there":
        mortal.kill()
    else:
        limiter.acquire("a")
        mortal.pause() if way == "paused" else mortal.kill()
    for call in (limiter.try_acquire, limiter.take, limiter.contact, limiter.peek, limiter.reset):
        with pytest.raises(bide.StoreError) as raised:
            call("a")
        assert f"store {mortal.kind}://127.0.0.1:{mortal.port}/0" in str(raised.value)
    with pytest.raises(bide.StoreError, match="it is tried again in"):
        limiter.penalize("b", 3.0)
    mortal.resume() if way == "paused" else mortal.start()
    until_up(limiter)
    assert limiter.take("a").allowed


def test_deny_refuses_and_says_when_to_ask_again(mortal: Any) -> None:
    limiter = bide.Limiter("5/hour", store=on(mortal, on_error="deny"))
    assert limiter.try_acquire("a")
    mortal.kill()
    outcome = limiter.take("a")
    assert not outcome
    assert 0.0 < outcome.retry_after <= 5.0
    assert limiter.try_acquire_many(["a", "b"]) == [False, False]
    assert not limiter.refund("a", outcome)
    limiter.sync("a", bide.Quota(remaining=3))
    limiter.penalize("held", 60.0)
    mortal.start()
    until_up(limiter)
    assert limiter.acquire("a", timeout=10.0).allowed
    assert not limiter.try_acquire("held"), "a penalty told during the outage holds here at least"


def test_allow_admits_uncounted(mortal: Any) -> None:
    limiter = bide.Limiter("1/hour", store=on(mortal, on_error="allow"))
    mortal.kill()
    assert all(limiter.try_acquire("a") for _ in range(20))
    assert limiter.take("a").remaining == 1
    assert limiter.store.stats().unanswered >= 20
    mortal.start()
    until_up(limiter)
    assert [limiter.try_acquire("a") for _ in range(2)] == [True, False]


@pytest.mark.parametrize("module", ["_compiled", "_pure"] if find_spec("bide._native") else ["_pure"])
def test_local_counts_its_share_in_each_process(mortal: Any, module: str) -> None:
    implementation: ModuleType = importlib.import_module(f"bide.limiter.{module}")
    url = on(mortal, on_error="local", share=0.25)
    hosts = [implementation.Limiter("40/hour", "100/day", store=url) for _ in "1234"]
    mortal.kill()
    assert [sum(host.try_acquire("a") for _ in range(30)) for host in hosts] == [10, 10, 10, 10]
    first = hosts[0]
    outcome = first.take("b")
    assert (outcome.limit, outcome.remaining) == (10, 9)
    assert first.refund("b", outcome)
    assert first.contact("c").probing
    first.sync("c", bide.Quota(remaining=2, reset_after=30.0))
    assert first.contact("c").remaining == 1
    first.penalize("d", 90.0)
    assert not first.try_acquire("d")
    assert not asyncio.run(first.take_async("a"))


def test_an_outage_costs_a_few_calls_their_deadline_and_the_others_nothing(mortal: Any) -> None:
    limiter = bide.Limiter("1000/hour", store=on(mortal, on_error="deny", timeout=DEADLINE))
    assert limiter.acquire("a", timeout=10.0).allowed
    mortal.pause()
    began = time.monotonic()
    slow = 0
    for _ in range(2_000):
        called = time.monotonic()
        assert not limiter.try_acquire("a")
        took = time.monotonic() - called
        assert took < DEADLINE + LATE
        slow += took > DEADLINE / 2
    assert slow <= 3 + (time.monotonic() - began) / 0.25
    assert limiter.store.stats().is_down
    mortal.resume()


@pytest.mark.parametrize("octets_at_once", [1 << 16, 1])
def test_one_deadline_holds_for_the_whole_call_however_the_answer_comes(
    server: Any, proxy: Any, octets_at_once: int
) -> None:
    limiter = bide.Limiter(
        "1000/hour", store=f"{server.kind}://127.0.0.1:{proxy.port}/2?timeout=0.1&on_error=deny"
    )
    assert limiter.acquire("a", timeout=20.0).allowed
    proxy.delay_seconds, proxy.octets_at_once = (0.06 if octets_at_once == 1 else 0.3), octets_at_once
    for _ in range(3):
        began = time.monotonic()
        assert not limiter.take("a")
        assert time.monotonic() - began < 0.1 + LATE

    async def ask() -> float:
        await asyncio.sleep(0.3)
        began = time.monotonic()
        assert not await limiter.take_async("a")
        return time.monotonic() - began

    assert asyncio.run(ask()) < 0.1 + LATE
    proxy.delay_seconds = 0.0
    until_up(limiter)
    assert limiter.take("a").allowed, "no late answer was taken for this one's"


def test_a_slow_server_never_blocks_the_event_loop(server: Any, proxy: Any) -> None:
    limiter = bide.Limiter("1000/hour", store=f"{server.kind}://127.0.0.1:{proxy.port}/0?timeout=2")
    proxy.delay_seconds = 0.1

    async def use() -> int:
        ticks = 0
        call = asyncio.create_task(limiter.take_async("a"))
        while not call.done():
            await asyncio.sleep(0.005)
            ticks += 1
        assert call.result().allowed
        return ticks

    assert asyncio.run(use()) > 10


def test_each_change_of_state_is_one_line_and_a_number(mortal: Any, caplog: pytest.LogCaptureFixture) -> None:
    limiter = bide.Limiter("1000/hour", store=on(mortal, on_error="allow"))
    with caplog.at_level(logging.DEBUG, "bide"):
        limiter.try_acquire("sk-live-1")
        assert caplog.records == []
        mortal.kill()
        for _ in range(200):
            limiter.try_acquire("sk-live-1")
        assert limiter.store.stats().is_down
        mortal.start()
        until_up(limiter)
        limiter.try_acquire("sk-live-1")
    down, up = (record.getMessage() for record in caplog.records)
    assert f"store {mortal.kind}://127.0.0.1:{mortal.port}/0 is down (" in down
    assert 'admitted uncounted (on_error="allow")' in down
    assert "is back after" in up
    assert "sk-live" not in down + up
    stats = limiter.store.stats()
    assert stats.outages == 1
    assert stats.failures >= 3
    assert not stats.is_down


def test_many_threads_through_a_kill_and_a_restart_come_back_and_stay_within_the_limit(mortal: Any) -> None:
    limiter = bide.Limiter("100000/hour", store=on(mortal, on_error="deny"))
    passed, stop = [0] * 4, threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            passed[number] += limiter.try_acquire("a")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while sum(passed) < 200:
        time.sleep(0.001)
    mortal.kill()
    while not limiter.store.stats().is_down:
        time.sleep(0.001)
    during = sum(passed)
    mortal.start()
    deadline = time.monotonic() + 20.0
    while sum(passed) < during + 200:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join()
    # The server came back empty and was reminded; an answer that was under way then may not be known to all.
    assert sum(passed) <= 100_000 - limiter.peek("a").remaining + len(threads)


@pytest.mark.parametrize("on_error", ["raise", "deny"])
@pytest.mark.parametrize("lease", [0, 20])
def test_a_server_that_comes_back_empty_is_reminded(mortal: Any, on_error: str, lease: int) -> None:
    """A restart without a disk, a failover to an empty replica: what a client saw goes with its next call."""
    limiter = bide.Limiter("100/hour", store=on(mortal, on_error=on_error, lease=lease))
    passed = sum(limiter.try_acquire("a") for _ in range(60))
    limiter.penalize("held", 600.0)
    mortal.kill()
    for _ in range(5):
        with suppress(bide.StoreError):
            passed += limiter.try_acquire("a")
    mortal.start()
    until_up(limiter)
    passed += sum(limiter.try_acquire("a") for _ in range(200))
    assert 100 - lease <= passed <= 100
    assert not limiter.try_acquire("held")


def test_after_a_failover_each_client_raises_the_count_to_what_it_saw(
    kind: str, server: Any, proxy: Any
) -> None:
    """The name leads to another server, an empty one: the one that saw most restores most."""
    others = bide.Limiter(
        "100/hour", store=f"{kind}://127.0.0.1:{proxy.port}/0?prefix=f{time.monotonic_ns()}:&timeout=10"
    )
    one = bide.Limiter("100/hour", store=str(others.store) + f"?prefix={others.store.prefix}&timeout=10")
    for _ in range(10):
        one.take("a")
    for _ in range(40):
        others.take("a")
    server.command("FLUSHALL")
    assert one.take("a").remaining == 100 - 10 - 1, "all that this one knows"
    assert others.take("a").remaining == 100 - 50 - 1, "what the other one knows comes on top"
    one.reset("a")
    assert others.peek("a").remaining == 100, "what was forgotten on purpose is not put back"


def test_a_restart_finds_the_same_secret_again(mortal: Any) -> None:
    url = on(mortal, timeout=10)
    one, other = (bide.Limiter("100/hour", store=url) for _ in "12")
    for limiter in (one, other):
        limiter.take("a")
    mortal.kill()
    mortal.start()
    assert one.take("a").allowed
    assert other.take("a").remaining <= 97, "both still write under one name"
    assert bide.Limiter("100/hour", store=url).take("a").remaining <= 96


def test_an_idle_connection_that_the_server_closed_is_no_failure(server: Any, url: str) -> None:
    limiter = bide.Limiter("100/hour", store=url)

    async def twice() -> None:
        await limiter.take_async("a")
        server.command("CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(0.02)
        assert (await limiter.take_async("a")).allowed

    limiter.take("a")
    server.command("CLIENT", "KILL", "TYPE", "normal")
    assert limiter.take("a").allowed
    asyncio.run(twice())
    assert limiter.store.stats().failures == 0


def test_a_wrong_password_says_so_and_shows_none(kind: str, mortal: Any) -> None:
    mortal.command("CONFIG", "SET", "requirepass", "correct-horse")
    for url, words in (
        (f"{kind}://:wrong-horse@127.0.0.1:{mortal.port}/0", "password"),
        (f"{kind}://127.0.0.1:{mortal.port}/0", "write redis://user:password@host"),
    ):
        with pytest.raises(bide.StoreError, match=words) as raised:
            bide.Limiter("1/second", store=f"{url}?timeout=10").take("a")
        assert "horse" not in str(raised.value)
    good = bide.Limiter("1/second", store=f"{kind}://:correct-horse@127.0.0.1:{mortal.port}/3?timeout=10")
    assert good.take("a").allowed
    assert asyncio.run(good.take_async("b")).allowed


def test_the_permissions_that_the_documentation_lists_are_enough(kind: str, mortal: Any) -> None:
    mortal.command(
        "ACL", "SETUSER", "limits", "on", ">correct-horse-battery", "resetkeys", "~bide:*", "-@all",
        "+eval", "+evalsha", "+time", "+hget", "+hmget", "+hset", "+pttl", "+pexpire", "+get", "+set",
    )  # fmt: skip
    limiter = bide.Limiter(
        "2/second",
        "9/minute",
        store=f"{kind}://limits:correct-horse-battery@127.0.0.1:{mortal.port}?timeout=10",
    )
    outcome = limiter.take("a")
    assert limiter.refund("a", outcome)
    limiter.penalize("a", 3.0)
    limiter.sync("b", bide.Quota(remaining=1))
    limiter.reset("a")
    assert limiter.peek("a").allowed
    barred = bide.Limiter(
        "2/second",
        store=f"{kind}://limits:correct-horse-battery@127.0.0.1:{mortal.port}?timeout=10&prefix=other:",
    )
    with pytest.raises(bide.StoreError, match=r"permissions listed in docs/stores\.md"):
        barred.take("a")


@contextmanager
def talking(answer: bytes) -> Iterator[int]:
    """A server that answers everything with the same octets; its port."""

    def talk(listener: socket.socket) -> None:
        with suppress(OSError):  # closed in the end
            while True:
                connection, _ = listener.accept()
                with connection:
                    while connection.recv(65_536):
                        connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=talk, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", b"\0\xff\r\n",
        # Redis, and no answer to what was asked.
        b"*1\r\n$1\r\n1\r\n", b":5\r\n", b"$-1\r\n", b"$3\r\nfoo\r\n", b"$0\r\n\r\n", b"$2\r\n\xff\xff\r\n",
        b"$7\r\n1 2 3 4\r\n", b"$13\r\n1 2 3 4 5 6 7\r\n", b"$70\r\n" + b"1" * 70 + b"\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("blocks", [True, False])
def test_a_server_that_speaks_something_else_is_a_failure_in_words(
    kind: str, answer: bytes, blocks: bool
) -> None:
    with talking(answer) as port:
        limiter = bide.Limiter("1/second", store=f"{kind}://127.0.0.1:{port}?timeout=20")
        try:
            with pytest.raises(bide.StoreError, match=f"127.0.0.1:{port}: ") as raised:
                _ = limiter.take("a") if blocks else asyncio.run(limiter.take_async("a"))
        finally:
            limiter.store.close()
    assert re.search("protocol", str(raised.value), re.IGNORECASE)
    assert str(raised.value).isprintable()
    assert limiter.store.stats().failures == 1


def test_a_server_that_says_the_password_back_finds_no_echo(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with talking(b"-NO nobody:correct horse is known here\r\n") as port:
        limiter = bide.Limiter("1/second", store=f"{kind}://:correct%20horse@127.0.0.1:{port}?timeout=20")
        with pytest.raises(bide.StoreError, match=r"NO nobody:\*\*\* is known here"):
            limiter.take("a")
        limiter.store.close()
    assert "horse" not in caplog.text


def test_a_real_cluster_node_takes_every_call(kind: str, tmp_path: Any, counting_servers: Any) -> None:
    """One node that holds all slots: a call that touched two of them would be refused."""
    server = type(counting_servers(kind))(kind, tmp_path, None, "--cluster-enabled", "yes")
    try:
        for first in range(0, 16_384, 1_024):
            server.command("CLUSTER", "ADDSLOTS", *map(str, range(first, first + 1_024)))
        deadline = time.monotonic() + 20.0
        while b"cluster_state:ok" not in server.command("CLUSTER", "INFO"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for query in ("cluster=true", "cluster=false"):
            limiter = bide.Limiter("5/second", "20/minute", store=f"{server.url}?{query}&timeout=10&lease=2")
            for n in range(20):
                outcome = limiter.take(f"key {n}")
                assert outcome.allowed
                assert limiter.refund(f"key {n}", outcome)
            assert limiter.try_acquire_many([f"many {n}" for n in range(20)]) == [True] * 20
            limiter.penalize("a", 3.0)
            limiter.reset("a")
            assert asyncio.run(limiter.take_async("b")).allowed
            limiter.store.close()
    finally:
        server.stop()
