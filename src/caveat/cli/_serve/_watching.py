"""What Prometheus is told: latency, batches, referrals, and whether rows still look like those that calibrated."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, cast, final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from caveat._estimators import measure_of
from caveat.cli._serve._computing import Answer
from caveat.cli._serve._exchangeability import ExchangeabilityTest
from caveat.cli._serve._served import Served

_RECENT = 1000
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


@dataclass(eq=False)
class _Stream:
    """The last rows of one model, and the calibration that they are compared with."""

    mark: str
    mean: float | None
    deviation: float | None
    test: ExchangeabilityTest | None
    uncertainty: deque[float] = field(default_factory=lambda: deque[float](maxlen=_RECENT))
    referred: deque[bool] = field(default_factory=lambda: deque[bool](maxlen=_RECENT))


@final
class Watch:
    """The numbers of a service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("caveat_requests", "Requests answered.", ["route", "status"], **own)
        self.seconds = Histogram("caveat_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, **own)
        self.batch_rows = Histogram("caveat_batch_rows", "Rows computed together.", buckets=_ROWS, **own)
        self.batch_requests = Histogram("caveat_batch_requests", "Requests computed together.", buckets=_ROWS, **own)
        self.batch_seconds = Histogram("caveat_batch_seconds", "Time to compute a batch.", buckets=_SECONDS, **own)
        self.waiting = Gauge("caveat_waiting_rows", "Rows that wait or are being computed.", **own)
        self.draws = Counter("caveat_draws", "Draws that answers summarize, over rows.", ["model"], **own)
        self.rows = Counter("caveat_rows", "Rows by what is done with them.", ["model", "decision"], **own)
        self.loads = Counter("caveat_model_loads", "Folders loaded anew, or not.", ["model", "result"], **own)
        self.referred = Gauge("caveat_referred_fraction", f"Of the last {_RECENT} rows.", ["model"], **own)
        mean = f"Mean uncertainty of the last {_RECENT} rows."
        self.uncertainty = Gauge("caveat_uncertainty_mean", mean, ["model"], **own)
        drift = "That mean less the mean of the calibration rows, in standard deviations of those."
        self.drift = Gauge("caveat_uncertainty_drift", drift, ["model"], **own)
        capital = "Test martingale against: rows are exchangeable with those that calibrated. 100: p is 0.01 at most."
        self.capital = Gauge("caveat_exchangeability_capital", capital, ["model"], **own)
        highest = "Largest capital of the test since it began (anew with each model, and after 20,000 rows)."
        self.highest = Gauge("caveat_exchangeability_highest", highest, ["model"], **own)
        self._streams: dict[str, _Stream] = {}

    def see_batch(self, requests: int, rows: int, seconds: float) -> None:
        """Takes note of a batch."""
        self.batch_requests.observe(requests)
        self.batch_rows.observe(rows)
        self.batch_seconds.observe(seconds)

    def see_answer(self, served: Served, answer: Answer) -> None:
        """Takes note of the rows of a request."""
        name, stream = served.name, self._stream(served)
        decisions = [str(row["decision"]) for row in answer.rows]
        for decision in dict.fromkeys(decisions):
            self.rows.labels(name, decision).inc(decisions.count(decision))
        self.draws.labels(name).inc(answer.draws * len(answer.rows))
        stream.referred.extend(decision != "answer" for decision in decisions)
        self.referred.labels(name).set(sum(stream.referred) / len(stream.referred))
        known = [value for value in answer.uncertainty if value is not None]
        stream.uncertainty.extend(known)
        if not stream.uncertainty:
            return
        mean = sum(stream.uncertainty) / len(stream.uncertainty)
        self.uncertainty.labels(name).set(mean)
        if stream.test is not None and stream.mean is not None and stream.deviation:
            stream.test.add(known)
            self.drift.labels(name).set((mean - stream.mean) / stream.deviation)
            self.capital.labels(name).set(stream.test.capital)
            self.highest.labels(name).set(stream.test.highest)

    def _stream(self, served: Served) -> _Stream:
        """Returns the stream of a model, a new one where its folder was replaced."""
        known = self._streams.get(served.name)
        if known is None or known.mark != served.mark:
            model = served.model
            values = model.calibration.uncertainty.get(measure_of(model, None))
            if values is None or len(values) < 2:
                known = _Stream(served.mark, None, None, None)
            else:
                test = ExchangeabilityTest(cast("list[float]", values.tolist()))
                known = _Stream(served.mark, float(values.mean()), float(values.std()), test)
            self._streams[served.name] = known
        return known
