"""Counters of a server, as Prometheus reads them."""

import threading
from collections import Counter

ROUTES = ("/v1/predict", "/v1/supports", "/v1/models", "/predict", "/webhook", "/setup")
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds


class Metrics:
    """What a server has done since it was started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()  # by route and status
        self._buckets: Counter[tuple[str, float]] = Counter()  # by route and upper bound
        self._seconds: dict[str, float] = {}
        self._passes = self._predicted = 0
        self.waiting = 0  # requests for the network

    def answered(self, path: str, status: int, seconds: float) -> None:
        route = next((one for one in ROUTES if path == one or path.startswith(one + "/")), "other")
        with self._lock:
            self._requests[route, status] += 1
            self._seconds[route] = self._seconds.get(route, 0.0) + seconds
            for bound in BUCKETS:
                self._buckets[route, bound] += seconds <= bound

    def predicted(self, pictures: int) -> None:
        """Pictures that shared a pass of the network."""
        with self._lock:
            self._passes += 1
            self._predicted += pictures

    def text(self) -> str:
        """The text format of Prometheus."""
        with self._lock:
            lines = ["# TYPE fssplat_requests_total counter"]
            for (route, status), count in sorted(self._requests.items()):
                lines.append(f'fssplat_requests_total{{route="{route}",status="{status}"}} {count}')
            lines.append("# TYPE fssplat_request_seconds histogram")
            for route in sorted(self._seconds):
                lines += self._histogram(route)
            for name, kind, value in (
                ("pictures_predicted_total", "counter", self._predicted),
                ("network_passes_total", "counter", self._passes),
                ("requests_waiting", "gauge", self.waiting),
            ):
                lines += [f"# TYPE fssplat_{name} {kind}", f"fssplat_{name} {value}"]
        return "\n".join(lines) + "\n"

    def _histogram(self, route: str) -> list[str]:
        name, label = "fssplat_request_seconds", f'route="{route}"'
        count = sum(n for (one, _), n in self._requests.items() if one == route)
        lines = [
            f'{name}_bucket{{{label},le="{bound:g}"}} {self._buckets[route, bound]}'
            for bound in BUCKETS
        ]
        return [
            *lines,
            f'{name}_bucket{{{label},le="+Inf"}} {count}',
            f"{name}_sum{{{label}}} {self._seconds[route]:.6f}",
            f"{name}_count{{{label}}} {count}",
        ]
