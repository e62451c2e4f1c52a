"""What one replica counts, in its own registry on its own port.

Ray runs each replica in a process of its own, where prometheus_client's multiprocess mode and Ray's own metrics
both get in the way; a registry per replica, scraped through the controller, needs neither.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Seconds; dense where users' limits lie (1-100 ms)."""


class Metrics:
    """The counters of one replica; each may be touched from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Counter(
            "stackyard_requests", "Answers, by status code and what was asked.", ["code", "asked"], registry=r
        )
        self.latency = Histogram(
            "stackyard_request_duration_seconds", "From the read body to the answer.", buckets=BUCKETS, registry=r
        )
        self.queue = Gauge("stackyard_queue_requests", "Requests that wait for the model.", registry=r)
        self.in_progress = Gauge("stackyard_requests_in_progress", "Predictions asked and not answered.", registry=r)
        self.batch_rows = Histogram(
            "stackyard_batch_rows",
            "Rows predicted at once.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 1024),
            registry=r,
        )
        self.model = Info("stackyard_model", "The model that answers.", registry=r)
        self.release = Gauge("stackyard_release_number", "Number of the Release that is followed.", registry=r)
        self.swaps = Counter("stackyard_model_swaps", "Models put into place.", registry=r)
        self.load_failures = Counter("stackyard_model_load_failures", "Models that were refused.", registry=r)
        self.store_failures = Counter("stackyard_store_failures", "Polls of the store that failed.", registry=r)
        self.log_rows = Counter("stackyard_prediction_log_rows", "Rows written to the prediction log.", registry=r)
        self.log_lost = Counter(
            "stackyard_prediction_log_lost_rows", "Rows the prediction log had to drop.", registry=r
        )
        self.log_poisoned = Counter(
            "stackyard_log_segments_set_aside", "Segments of a log that could not be read whole.", registry=r
        )
        self.user_errors = Counter("stackyard_feature_failures", "Requests the features failed on.", registry=r)
        self.swap = Histogram(
            "stackyard_model_swap_seconds",
            "From a read Release to its model in place.",
            buckets=(0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
            registry=r,
        )
        self.arm_requests = Counter(
            "stackyard_arm_requests",
            "Requests of a challenger, by what became of them.",
            ["arm", "outcome"],
            registry=r,
        )
        self.arm_latency = Histogram(
            "stackyard_arm_duration_seconds",
            "A challenger's answer to one batch.",
            ["arm"],
            buckets=BUCKETS,
            registry=r,
        )
        self.arm_fused = Gauge("stackyard_arm_fused", "1 when this replica asks its challenger no more.", registry=r)
        self.arm_starts = Counter("stackyard_arm_process_starts", "Processes begun for a challenger.", registry=r)
        self.labels = Counter("stackyard_labels_accepted", "Labels taken, and safe on disk.", registry=r)
        self._answers: dict[tuple[int, bool], Counter] = {}

    def answered(self, code: int, *, prediction: bool) -> None:
        """Count one answer; probes and pages are told apart, or they would drown the predictions."""
        counter = self._answers.get((code, prediction))
        if counter is None:
            asked = "prediction" if prediction else "page"
            counter = self._answers[code, prediction] = self.requests.labels(str(code), asked)
        counter.inc()

    def render(self) -> bytes:
        """The registry in Prometheus' text format."""
        return generate_latest(self.registry)
