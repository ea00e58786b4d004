"""The work queue: nothing missed, nothing twice at a time, errors later."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bayplan_operator.queue import WorkQueue

Scene = Callable[[WorkQueue[str]], Awaitable[None]]


def play(work: Callable[[str], Awaitable[float | None]], scene: Scene, **more: float) -> None:
    """Run a scene beside a queue."""

    async def run() -> None:
        queue: WorkQueue[str] = WorkQueue(work, first_retry_s=0.01, **more)  # type: ignore[arg-type]
        worker = asyncio.create_task(queue.run())
        try:
            async with asyncio.timeout(60):
                await scene(queue)
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    asyncio.run(run())


class Recorder:
    """Notes each pass, and lets tests wait for so many of them."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.at: list[float] = []
        self._changed = asyncio.Event()

    async def __call__(self, key: str) -> float | None:
        """Note a pass."""
        self.seen.append(key)
        self.at.append(asyncio.get_running_loop().time())
        self._changed.set()
        return None

    async def passes(self, n: int) -> None:
        """Wait until there were `n` passes."""
        while len(self.seen) < n:
            self._changed.clear()
            await self._changed.wait()


def test_a_key_that_is_added_often_is_looked_at_once() -> None:
    """A unit's pods come in a burst of events."""
    work = Recorder()

    async def scene(queue: WorkQueue[str]) -> None:
        for _ in range(5):
            queue.add("a", after_s=0.01)
        queue.add("b", after_s=0.02)
        await work.passes(2)

    play(work, scene)

    assert work.seen == ["a", "b"]


def test_the_earliest_wish_counts() -> None:
    """An event must not wait for a resync that is far away."""
    work = Recorder()

    async def scene(queue: WorkQueue[str]) -> None:
        queue.add("a", after_s=100)
        queue.add("a", after_s=0.01)
        queue.add("a", after_s=50)
        await work.passes(1)

    play(work, scene)


def test_a_change_during_a_pass_leads_to_another_pass_after_it() -> None:
    """The pass may have read before the change."""
    running = 0
    passes = 0
    started = asyncio.Event()
    finished = asyncio.Event()
    go_on = asyncio.Event()

    async def work(_: str) -> float | None:
        nonlocal running, passes
        running += 1
        passes += 1
        assert running == 1, "the same key twice at a time"
        started.set()
        await go_on.wait()
        running -= 1
        if passes == 2:
            finished.set()
        return None

    async def scene(queue: WorkQueue[str]) -> None:
        queue.add("a")
        await started.wait()
        queue.add("a")
        queue.add("a")
        go_on.set()
        await finished.wait()

    play(work, scene)

    assert passes == 2


def test_different_keys_are_looked_at_side_by_side_up_to_the_limit() -> None:
    """One slow deployment must not hold up the others, nor take all connections."""
    running: set[str] = set()
    most = 0
    both = asyncio.Event()
    go_on = asyncio.Event()

    async def work(key: str) -> float | None:
        nonlocal most
        running.add(key)
        most = max(most, len(running))
        if len(running) == 2:
            both.set()
        await go_on.wait()
        running.discard(key)
        return None

    async def scene(queue: WorkQueue[str]) -> None:
        for key in "abc":
            queue.add(key)
        await both.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        go_on.set()

    play(work, scene, max_parallel=2)

    assert most == 2


def test_a_pass_that_asks_for_another_gets_it() -> None:
    """A plan at work is looked at again and again."""
    recorder = Recorder()

    async def work(key: str) -> float | None:
        await recorder(key)
        return 0.01 if len(recorder.seen) < 3 else None

    async def scene(queue: WorkQueue[str]) -> None:
        queue.add("a")
        await recorder.passes(3)

    play(work, scene)


def test_errors_are_tried_again_later_and_later_until_one_pass_succeeds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The API server may be away for a while."""
    recorder = Recorder()

    async def work(key: str) -> float | None:
        await recorder(key)
        if len(recorder.seen) < 4:
            raise OSError("connection refused")
        return None

    async def scene(queue: WorkQueue[str]) -> None:
        queue.add("a")
        await recorder.passes(4)

    play(work, scene)

    pauses = [b - a for a, b in zip(recorder.at, recorder.at[1:], strict=False)]
    assert pauses[0] >= 0.01
    assert pauses[1] >= 0.02
    assert pauses[2] >= 0.04
    assert "OSError: connection refused" in capsys.readouterr().out


def test_one_bad_key_does_not_stop_the_others() -> None:
    """A bug for one object is logged, not fatal."""
    recorder = Recorder()

    async def work(key: str) -> float | None:
        if key == "bad":
            raise KeyError("bug")
        return await recorder(key)

    async def scene(queue: WorkQueue[str]) -> None:
        queue.add("bad")
        queue.add("good", after_s=0.01)
        await recorder.passes(1)

    play(work, scene)

    assert recorder.seen == ["good"]


def test_a_key_rests_for_as_long_as_its_pass_took() -> None:
    """Events come faster than a slow pass can answer them."""
    recorder = Recorder()
    ended: list[float] = []

    async def work(key: str) -> float | None:
        await recorder(key)
        await asyncio.sleep(0.03)
        ended.append(asyncio.get_running_loop().time())
        return None

    async def scene(queue: WorkQueue[str]) -> None:
        queue.add("a")
        await recorder.passes(1)
        queue.add("a")
        await recorder.passes(2)

    play(work, scene)

    assert recorder.at[1] - ended[0] >= 0.03 - 0.005


def test_a_key_with_something_new_to_do_does_not_rest() -> None:
    """A plan that comes while the one before is carried out would wait for as long again."""
    recorder = Recorder()
    queues: list[WorkQueue[str]] = []

    async def work(key: str) -> float | None:
        await recorder(key)
        if len(recorder.seen) == 1:
            await asyncio.sleep(0.05)  # for as long "a" would rest
            queues[0].add("a", rests=False)
            queues[0].add("b", after_s=0.04)
        return None

    async def scene(queue: WorkQueue[str]) -> None:
        queues.append(queue)
        queue.add("a")
        await recorder.passes(3)

    play(work, scene)

    assert recorder.seen == ["a", "a", "b"]


class Counting:
    """A key that counts how often it is looked up, all of them together."""

    lookups = 0

    def __init__(self, number: int) -> None:
        self._number = number

    def __hash__(self) -> int:
        """Count."""
        Counting.lookups += 1
        return hash(self._number)

    def __eq__(self, other: object) -> bool:
        """Compare the numbers."""
        return isinstance(other, Counting) and other._number == self._number


def test_each_of_many_keys_costs_the_same() -> None:
    """All were looked through for the next: a resync of thousands kept the event loop busy."""
    many, seen = 1000, 0
    done = asyncio.Event()

    async def work(_: Counting) -> None:
        nonlocal seen
        seen += 1
        if seen == many:
            done.set()

    async def run() -> None:
        queue: WorkQueue[Counting] = WorkQueue(work)
        worker = asyncio.create_task(queue.run())
        for number in range(many):
            queue.add(Counting(number), after_s=0.01)
        async with asyncio.timeout(60):
            await done.wait()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    asyncio.run(run())

    assert Counting.lookups < 50 * many


def test_keys_that_are_never_added_again_are_forgotten() -> None:
    """Each InferenceDeployment that was ever deleted left its key there for good."""
    work = Recorder()
    left: list[int] = []

    async def scene(queue: WorkQueue[str]) -> None:
        for number in range(50):
            queue.add(str(number))
            await work.passes(number + 1)
        left.append(len(queue._rests_until))  # noqa: SLF001 - what grew

    play(work, scene)

    assert left[0] < 10
