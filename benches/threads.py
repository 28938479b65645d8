"""What a second thread adds, on an ordinary and on a free-threaded CPython: `make test-freethreaded` ends with it.

Each row is one piece of work done by one thread and then by two at once, in turn, round after round; the best round
of each counts. On an ordinary build two threads share the interpreter's lock, so that 1.0 is the best there is; on a
free-threaded one a method of one shared object is bounded by that object's reference count, which is why a method
that does nothing stands beside it.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from itertools import cycle, islice

from bide.limiter._compiled import Limiter

CALLS = 200_000
ROUNDS = 15
LIMIT = "67000000/hour"

Call = Callable[[str], object]


def rate(make_call: Callable[[], Call], make_key: Callable[[int, int], str], count: int) -> float:
    """Millions of calls a second of so many threads together. Each makes its own call and its own key strings, so
    that what it counts references of is its own as far as the row lets it be."""
    barrier = threading.Barrier(count)
    began = [0.0] * count
    ended = [0.0] * count

    def work(thread: int) -> None:
        call = make_call()
        keys = list(islice(cycle([make_key(thread, number) for number in range(1_000)]), CALLS))
        barrier.wait()
        began[thread] = time.perf_counter()
        for key in keys:
            call(key)
        ended[thread] = time.perf_counter()

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = max(ended) - min(began)
    return count * CALLS / elapsed / 1e6


def own_key(thread: int, number: int) -> str:
    return f"Bearer {thread}{number:08x}"


def one_key(thread: int, number: int) -> str:
    return "".join(["one ", "key"])


def main() -> None:
    shared = Limiter(LIMIT, max_keys=10_000)
    base = Limiter(LIMIT, max_keys=10_000)

    def of_its_own() -> Call:
        return Limiter(LIMIT, max_keys=10_000, store=base.store).try_acquire

    rows: dict[str, tuple[Callable[[], Call], Callable[[int, int], str]]] = {}
    try:
        from noop import Noop
    except ImportError:
        print("threads: without the method that does nothing (pip install ./benches/noop)", file=sys.stderr)
    else:
        noop = Noop()
        rows["a method that does nothing, one shared object"] = (lambda: noop.call, own_key)
        rows["a method that does nothing, an object for each thread"] = (lambda: Noop().call, own_key)
    rows |= {
        "try_acquire, keys of their own, one shared limiter": (lambda: shared.try_acquire, own_key),
        "try_acquire, keys of their own, a limiter for each thread on one store": (of_its_own, own_key),
        "try_acquire, one key, one shared limiter": (lambda: shared.try_acquire, one_key),
        "try_acquire, one key, a limiter for each thread on one store": (of_its_own, one_key),
    }
    one = dict.fromkeys(rows, 0.0)
    two = dict.fromkeys(rows, 0.0)
    for _ in range(ROUNDS):
        for name, row in rows.items():
            one[name] = max(one[name], rate(*row, count=1))
            two[name] = max(two[name], rate(*row, count=2))
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(
        f"threads: CPython {sys.version.split()[0]}, {'with' if gil else 'without'} the GIL, {os.cpu_count()} cores"
    )
    print(f"{'millions of calls a second':72} {'1 thread':>9} {'2 threads':>9} {'ratio':>6}")
    for name in rows:
        print(f"{name:72} {one[name]:9.2f} {two[name]:9.2f} {two[name] / one[name]:6.2f}")
    assert shared.stats().denied == 0


if __name__ == "__main__":
    main()
