"""No two planners lead at once, however slow, lost or late the answers of the API server are."""

import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import ReadTimeoutError

from bayplan_extender.kube import FAILURES
from bayplan_extender.planner.lease import DURATION_S, RETRY_S, Lease

#: Seconds on the way to the API server and back, and between two tries.
WAYS_S = st.sampled_from(
    [(0.01, 0.01), (0.01, 5.5), (5.5, 0.01), (2.0, 2.0), (0.01, DURATION_S), (DURATION_S, 0.01)]
)
PAUSES_S = st.sampled_from([RETRY_S, 8.0, 30.0])


class Ended(Exception):  # noqa: N818 - not an error
    """The planner is to end."""


class World:
    """The time, the one Lease, and planners of which one runs at a time, until it has to wait."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lease: Any = None
        self.versions = itertools.count(1)
        self.planners: list[Planner] = []
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, do: Callable[[], object]) -> None:
        """Have something happen later; what is due at the same time happens in this order."""
        heapq.heappush(self._due, (self.now + seconds, next(self._numbers), do))

    def run(self, *, until: float) -> None:
        """Let time pass, and see after each event that one planner leads at most."""
        while self._due and self._due[0][0] <= until:
            self.now, _, do = heapq.heappop(self._due)
            do()
            assert len(self.leaders()) <= 1, f"two lead at {self.now}"
        self.now = until

    def leaders(self) -> list[str]:
        """Return who takes itself for the leader."""
        return [each.lease.identity for each in self.planners if each.lease.is_ours()]


class Planner(threading.Thread):
    """Asks for the lease again and again; stands in for its client.

    Attributes:
        ways_s: What each call and each answer takes, in turn.
        pauses_s: What passes between two tries, in turn.
    """

    def __init__(
        self,
        world: World,
        name: str,
        ways_s: Sequence[tuple[float, float]],
        pauses_s: Sequence[float],
    ) -> None:
        super().__init__(daemon=True)
        self.lease = Lease(self, "ns", name, clock=lambda: world.now)  # type: ignore[arg-type]
        self.ways_s: Iterator[tuple[float, float]] = itertools.cycle(ways_s)
        self.pauses_s: Iterator[float] = itertools.cycle(pauses_s)
        self._world = world
        self._is_over = False
        self._goes, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self.start()
        world.planners.append(self)
        world.after(0.0, self._go_on)

    def run(self) -> None:
        """Try until it is over."""
        try:
            self._halt()
            while True:
                with contextlib.suppress(*FAILURES):
                    self.lease.hold()
                self._wait(next(self.pauses_s))
        except Ended:
            self._waits.release()

    def end(self) -> None:
        """End the thread."""
        self._is_over = True
        self._go_on()
        self.join()

    def _go_on(self) -> None:
        self._goes.release()
        self._waits.acquire()

    def _wait(self, seconds: float) -> None:
        self._world.after(seconds, self._go_on)
        self._waits.release()
        self._halt()

    def _halt(self) -> None:
        self._goes.acquire()
        if self._is_over:
            raise Ended

    def _call(self, effect: Callable[[], Any], limit_s: float) -> Any:  # noqa: ANN401 - as the library
        """Have an effect on its way; it comes about even if nobody waits for the answer."""
        there_s, back_s = next(self.ways_s)
        answer: list[Any] = []
        self._world.after(there_s, lambda: answer.append(_outcome(effect)))
        self._wait(min(there_s + back_s, limit_s))
        if there_s + back_s > limit_s or not answer:
            raise ReadTimeoutError(None, "/apis", "no answer")  # type: ignore[arg-type]
        if isinstance(answer[0], ApiException):
            raise answer[0]
        return answer[0]

    def read_namespaced_lease(self, *_: str, _request_timeout: float) -> Any:  # noqa: ANN401 - as the library
        """Return a copy."""
        return self._call(self._read, _request_timeout)

    def create_namespaced_lease(self, _: str, body: Any, *, _request_timeout: float) -> Any:  # noqa: ANN401
        """Keep it, unless there is one."""
        return self._call(lambda: self._write(body, ""), _request_timeout)

    def replace_namespaced_lease(
        self,
        _: str,
        __: str,
        body: Any,  # noqa: ANN401 - as the library
        *,
        _request_timeout: float,
    ) -> Any:  # noqa: ANN401 - as the library
        """Keep it, if it is still what was read."""
        version = body.metadata.resource_version
        return self._call(lambda: self._write(body, version), _request_timeout)

    def _read(self) -> Any:  # noqa: ANN401 - as the library
        if self._world.lease is None:
            raise ApiException(status=404, reason="Not Found")
        known = self._world.lease
        return client.V1Lease(
            metadata=client.V1ObjectMeta(resource_version=known.metadata.resource_version),
            spec=client.V1LeaseSpec(**known.spec.to_dict()),
        )

    def _write(self, body: Any, version: str) -> Any:  # noqa: ANN401 - as the library
        known = self._world.lease
        if version != ("" if known is None else known.metadata.resource_version):
            raise ApiException(status=409, reason="Conflict")
        spec = client.V1LeaseSpec(**body.spec.to_dict())
        metadata = client.V1ObjectMeta(resource_version=str(next(self._world.versions)))
        self._world.lease = client.V1Lease(metadata=metadata, spec=spec)
        return self._read()


def _outcome(effect: Callable[[], Any]) -> Any:  # noqa: ANN401 - as the library, or how it fails
    try:
        return effect()
    except ApiException as error:
        return error


@given(
    seconds=st.lists(
        st.tuples(
            st.lists(WAYS_S, min_size=1, max_size=12), st.lists(PAUSES_S, min_size=1, max_size=6)
        ),
        min_size=1,
        max_size=2,
    )
)
def test_one_leads_at_most_and_somebody_when_answers_come_again(
    seconds: list[tuple[list[tuple[float, float]], list[float]]],
) -> None:
    """Two would publish plans that overtake each other."""
    world = World()
    for name, (ways_s, pauses_s) in zip("ab", seconds, strict=False):
        Planner(world, name, ways_s, pauses_s)
    # Who takes what has lapsed at once; at times it is away, so that others get the lease too.
    world.after(1.0, lambda: Planner(world, "quick", [(0.01, 0.01)], [*[0.5] * 60, 20.0]))
    try:
        world.run(until=250.0)

        for planner in world.planners:
            planner.ways_s, planner.pauses_s = (
                itertools.repeat((0.01, 0.01)),
                itertools.repeat(RETRY_S),
            )
        # What is on its way arrives, pauses end, and a lease that nobody renews lapses.
        world.run(until=350.0)
        assert len(world.leaders()) == 1
    finally:
        for planner in world.planners:
            planner.end()
