"""How a worker works: frozen values, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ConfigInvalid
from .upkeep import Retention


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """How a worker works.

    Attributes:
        lease_s: how long a run stays with a worker that is not heard of, 0.5 s or more. Takeover of a killed
            worker's runs begins within this and a second.
        capacity: runs executed at once.
        park_after_s: how long a run may only wait before it is parked: it gives up its lease and its place in memory.
        drain_s: how long a drain waits for steps under way before it hands their runs over all the same.
        retention: which ended runs are removed; None: none.
        name: unique among workers; by default host, process and a random part.
        build: names the code that runs; by default a digest of the workflows' modules.
        seed: for the jitter of retries; by default random.
    """

    lease_s: float = 10.0
    capacity: int = 200
    park_after_s: float = 1.0
    drain_s: float = 30.0
    retention: Retention | None = None
    name: str | None = None
    build: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.lease_s >= 0.5:
            raise ConfigInvalid(f"lease_s is {self.lease_s}: give 0.5 seconds or more (default 10)")
        if self.capacity < 1:
            raise ConfigInvalid(f"capacity is {self.capacity}: give 1 or more runs (default 200)")
        if not self.park_after_s >= 0:
            raise ConfigInvalid(f"park_after_s is {self.park_after_s}: give 0 or more seconds (default 1)")
        if not self.drain_s >= 0:
            raise ConfigInvalid(f"drain_s is {self.drain_s}: give 0 or more seconds (default 30)")
