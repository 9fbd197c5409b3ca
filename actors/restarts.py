"""How often is too often: the restart intensity of one supervisor. Decides, and does nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from .child import Child
from .messages import ExitReason
from .spec import ONE_FOR_ALL, ONE_FOR_ONE, SupervisorSpec

HISTORY = 10
"""Failures that are remembered for SupervisorFailed."""


class Restarts:
    """Counts the restarts of all children of a supervisor together.

    Attributes:
        history: paths and reasons of the last failures, oldest first.
    """

    def __init__(self, spec: SupervisorSpec) -> None:
        self.history: deque[tuple[str, ExitReason]] = deque(maxlen=HISTORY)
        self._spec = spec
        self._times: deque[float] = deque()

    def allow(self, child: Child, now: float) -> bool:
        """Count a restart; False: it is one more than `intensity` within the last `period` seconds."""
        self.history.append((child.path, child.reason))
        self._times.append(now)
        while self._times[0] < now - self._spec.period:
            self._times.popleft()
        return len(self._times) <= self._spec.intensity

    def group(self, child: Child, children: Iterable[Child]) -> Sequence[Child]:
        """Return who is restarted with this child, itself included, in the order of their start."""
        if self._spec.strategy is ONE_FOR_ONE:
            return (child,)
        group = list(children)
        return group if self._spec.strategy is ONE_FOR_ALL else group[group.index(child) :]
