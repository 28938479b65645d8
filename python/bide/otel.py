"""OpenTelemetry counters of what the clients do: ``bide.otel.instrument()``, once.

    bide.client.decisions   {decision}  by action and reason
    bide.client.wait        s           seconds waited, by cause
    bide.client.refusals    {response}  429s

Rules of this file: no key, token, host or URL is ever an attribute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import metrics

from bide._driver import observers

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from bide._flow import Sleep
    from bide.policy import Decision

__all__ = ["instrument"]


class _Counters:
    def __init__(self, provider: MeterProvider | None) -> None:
        meter = metrics.get_meter("bide", meter_provider=provider)
        self._decisions = meter.create_counter(
            "bide.client.decisions", unit="{decision}", description="Decisions by action and reason."
        )
        self._wait = meter.create_counter(
            "bide.client.wait", unit="s", description="Seconds that requests were held back, by cause."
        )
        self._refusals = meter.create_counter(
            "bide.client.refusals", unit="{response}", description="Responses with status 429."
        )

    def decided(self, decision: Decision, status: int | None) -> None:
        attributes = {"bide.action": str(decision.action), "bide.reason": str(decision.reason)}
        self._decisions.add(1, attributes)
        if status == 429:
            self._refusals.add(1)

    def waits(self, sleep: Sleep) -> None:
        self._wait.add(sleep.seconds, {"bide.cause": str(sleep.cause)})


def instrument(provider: MeterProvider | None = None) -> None:
    """Counts from now on what every client adapter of this process does.

    Args:
        provider: the meter provider; None is OpenTelemetry's global one.

    >>> instrument()
    """
    observers[:] = [observer for observer in observers if not isinstance(observer, _Counters)]
    observers.append(_Counters(provider))
