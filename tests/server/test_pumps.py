"""The two tasks that serve all connections of a server: what they do, for whom, and what they never lose."""

import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.server.flusher import Flusher
from trio_broker.server.poller import Poller, open_poller


class Note:
    """Stands in the line, notes each flush, and stands there again so often."""

    def __init__(self, flusher: Flusher, again: int = 0) -> None:
        self.flusher = flusher
        self.again = again
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        if self.flushes <= self.again:
            self.flusher.add(self)


@asynccontextmanager
async def polling() -> AsyncIterator[tuple[Poller, Flusher]]:
    """A poller that runs, and its flusher, which does not."""
    flusher = Flusher()
    poller = open_poller(flusher)
    assert poller is not None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            yield poller, flusher
            nursery.cancel_scope.cancel()
        assert not poller._watched
    finally:
        poller.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


async def test_an_act_is_called_until_it_says_false(pair: Pair) -> None:
    ours, theirs = pair
    heard: list[bytes] = []

    def act() -> bool:
        heard.append(ours.recv(1))
        return heard[-1] != b"c"

    async with polling() as (poller, _):
        theirs.send(b"abcd")
        await poller.watch(ours, act)
    assert heard == [b"a", b"b", b"c"]
    assert ours.recv(4) == b"d"  # it was not called again


async def test_what_an_act_raises_is_raised_where_it_is_watched(pair: Pair) -> None:
    ours, theirs = pair

    def act() -> bool:
        raise ZeroDivisionError

    async with polling() as (poller, _):
        theirs.send(b"a")
        with pytest.raises(ZeroDivisionError):
            await poller.watch(ours, act)


async def test_a_cancelled_watch_has_no_act_called_any_more(pair: Pair) -> None:
    ours, theirs = pair
    async with polling() as (poller, _):
        with trio.move_on_after(0) as scope:
            await poller.watch(ours, lambda: pytest.fail("called after the end"))
        assert scope.cancelled_caught
        theirs.send(b"a")
        await wait_all_tasks_blocked()
        ours.recv(1)
        await poller.watch(*_one_byte(pair))  # it can be watched again


def _one_byte(pair: Pair) -> tuple[socket.socket, Callable[[], bool]]:
    """Watch for one byte, which is there."""
    ours, theirs = pair
    theirs.send(b"x")
    return ours, lambda: ours.recv(1) != b"x"


async def test_an_act_may_cancel_its_own_watch(pair: Pair) -> None:
    """Then the watch is cancelled, whatever the act says; but an error of it is not lost."""
    ours, theirs = pair
    theirs.send(b"a")
    async with polling() as (poller, _):
        for goes_on in (True, False):
            with trio.CancelScope() as scope:

                def act(scope: trio.CancelScope = scope, goes_on: bool = goes_on) -> bool:
                    scope.cancel()
                    return goes_on

                await poller.watch(ours, act)
            assert scope.cancelled_caught
        with trio.CancelScope() as scope:

            def fail() -> bool:
                scope.cancel()
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await poller.watch(ours, fail)


async def test_an_act_may_end_the_watch_of_another() -> None:
    """Two sockets have something in the same step; the first to act cancels the other."""
    pairs = [socket.socketpair() for _ in range(2)]
    scopes = [trio.CancelScope(), trio.CancelScope()]
    acted: list[int] = []

    async def watch(poller: Poller, number: int) -> None:
        def act() -> bool:
            acted.append(number)
            scopes[1 - number].cancel()
            return False

        with scopes[number]:
            await poller.watch(pairs[number][0], act)

    async with polling() as (poller, _), trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(watch, poller, number)
        await wait_all_tasks_blocked()
        for _, theirs in pairs:
            theirs.send(b"a")
    assert len(acted) == 1
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


async def test_what_a_read_brings_is_flushed_in_the_same_step(pair: Pair) -> None:
    ours, theirs = pair
    async with polling() as (poller, flusher):
        note = Note(flusher)

        def act() -> bool:
            flusher.add(note)
            ours.recv(1)
            return False

        theirs.send(b"a")
        await poller.watch(ours, act)
        assert note.flushes == 1


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks; time passes between them where the program waits for the system."""

    def __init__(self, clock: MockClock, wait_seconds: float) -> None:
        self.count = 0
        self._clock = clock
        self._wait_seconds = wait_seconds

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1

    def after_io_wait(self, timeout: float) -> None:
        self._clock.jump(self._wait_seconds)


async def _acts_in_each_step(pair: Pair, clock: MockClock, *, act_seconds: float, wait_seconds: float) -> list[int]:
    """Watch a socket to which each of 40 acts sends another byte."""
    ours, theirs = pair
    steps = Steps(clock, wait_seconds)
    acts: list[int] = []

    def act() -> bool:
        ours.recv(1)
        theirs.send(b"a")
        acts.append(steps.count)
        clock.jump(act_seconds)
        return len(acts) < 40

    trio.lowlevel.add_instrument(steps)
    async with polling() as (poller, _):
        theirs.send(b"a")
        await poller.watch(ours, act)
    trio.lowlevel.remove_instrument(steps)
    return [*Counter(acts).values()]


async def test_what_comes_soon_after_is_read_in_the_same_step_but_a_step_ends(
    pair: Pair, mock_clock: MockClock
) -> None:
    first, *others, _ = await _acts_in_each_step(pair, mock_clock, act_seconds=100e-6, wait_seconds=0)
    assert first == 1  # nothing had come before it
    assert others
    assert set(others) <= {5, 6}  # half a millisecond


async def test_where_bytes_are_rare_a_step_looks_for_no_more(pair: Pair, mock_clock: MockClock) -> None:
    assert set(await _acts_in_each_step(pair, mock_clock, act_seconds=0, wait_seconds=100e-6)) == {1}


async def test_a_flusher_flushes_whom_it_is_told_of_once_each() -> None:
    flusher = Flusher()
    notes = [Note(flusher), Note(flusher, again=2)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flusher.run)
        await wait_all_tasks_blocked()
        for _ in range(2):
            for note in notes:
                flusher.add(note)
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [note.flushes for note in notes] == [2, 4]


async def test_a_busy_connection_lets_others_run_between_two_flushes() -> None:
    flusher = Flusher()
    busy = Note(flusher, again=10**9)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flusher.run)
        flusher.add(busy)
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        assert 10 <= busy.flushes <= 20
        nursery.cancel_scope.cancel()


async def test_what_a_flush_in_another_task_leaves_is_flushed_by_the_flushers_own() -> None:
    flusher = Flusher()
    note = Note(flusher, again=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flusher.run)
        await wait_all_tasks_blocked()
        flusher.announce()
        flusher.add(note)
        flusher.flush()
        assert note.flushes == 1
        await wait_all_tasks_blocked()
        assert note.flushes == 2
        nursery.cancel_scope.cancel()


# -- what ends no more than it must ------------------------------------------------------------------------------------


async def test_what_a_signals_handler_raises_in_an_act_ends_the_poller_and_nobody_hangs(pair: Pair) -> None:
    """Even if the act had cancelled its own watch before."""
    ours, theirs = pair
    for cancels in (False, True):
        poller = open_poller(Flusher())
        assert poller is not None
        theirs.send(b"a")
        with pytest.RaisesGroup(SystemExit):
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()

                def act(scope: trio.CancelScope = scope, cancels: bool = cancels) -> bool:
                    if cancels:
                        scope.cancel()
                    raise SystemExit

                nursery.start_soon(poller.run)
                with scope:
                    await poller.watch(ours, act)
        assert not poller._watched
        poller.close()


async def test_without_a_descriptor_to_spare_there_is_no_poller(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("select.epoll", refuse)
    assert open_poller(Flusher()) is None


async def test_what_the_system_cannot_watch_is_a_broken_connection() -> None:
    async with polling() as (poller, _):
        with open("/etc/hostname", "rb") as file:  # noqa: ASYNC230  which no epoll takes
            with pytest.raises(trio.BrokenResourceError, match="cannot watch one more socket"):
                await poller.watch(file, lambda: True)  # type: ignore[arg-type]
        assert not poller._watched


async def test_a_long_step_is_broken_off_and_nobody_is_forgotten(mock_clock: MockClock) -> None:
    """Each act takes longer than a step may: they take turns with others, all of them."""
    pairs = [socket.socketpair() for _ in range(5)]
    steps = 0
    done: list[int] = []

    async def watch(poller: Poller, number: int) -> None:
        def act() -> bool:
            done.append(steps)
            mock_clock.jump(1)
            return False

        await poller.watch(pairs[number][0], act)

    async def count() -> None:
        nonlocal steps
        while True:
            await trio.lowlevel.checkpoint()
            steps += 1

    async with polling() as (poller, _), trio.open_nursery() as nursery:
        async with trio.open_nursery() as watching:
            for number in range(5):
                watching.start_soon(watch, poller, number)
            await wait_all_tasks_blocked()
            nursery.start_soon(count)
            for _, theirs in pairs:
                theirs.send(b"a")
        assert len(done) == 5
        assert done[-1] - done[0] >= 3  # the other task has run between them
        nursery.cancel_scope.cancel()
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


async def test_who_hangs_up_is_noticed_once_before_what_it_sent_is_read(pair: Pair) -> None:
    ours, theirs = pair
    heard: list[str] = []
    async with polling() as (poller, _):
        with poller.watch_for_hang_up(ours, lambda: heard.append("gone")):
            theirs.send(b"something")
            for _ in range(10):
                await trio.lowlevel.checkpoint()
            assert not heard
            theirs.shutdown(socket.SHUT_WR)
            for _ in range(10):
                await trio.lowlevel.checkpoint()
            assert heard == ["gone"]
        assert not poller._watched
        await poller.watch(ours, lambda: False)  # it can be watched again, as before
        assert ours.recv(100) == b"something"


async def test_whose_hang_up_is_not_watched_for_any_more_is_not_told(pair: Pair) -> None:
    ours, theirs = pair
    async with polling() as (poller, _):
        with poller.watch_for_hang_up(ours, lambda: pytest.fail("told")):
            pass
        theirs.close()
        for _ in range(10):
            await trio.lowlevel.checkpoint()


async def test_what_fails_on_a_hang_up_is_raised_where_it_was_watched_for_and_nowhere_else(pair: Pair) -> None:
    ours, theirs = pair
    mine, yours = socket.socketpair()

    def fail() -> None:
        raise ValueError("wrong")

    async with polling() as (poller, _):
        with pytest.raises(ValueError, match="wrong"):
            with poller.watch_for_hang_up(ours, fail):
                theirs.close()
                with trio.fail_after(1):
                    await trio.sleep_forever()
        assert not poller._watched
        yours.send(b"something")
        await poller.watch(mine, lambda: False)  # others are served as before
    mine.close()
    yours.close()


async def test_a_hang_up_that_the_system_cannot_watch_for_is_not_told() -> None:
    async with polling() as (poller, _):
        with open("/etc/hostname", "rb") as file:  # noqa: ASYNC230  which no epoll takes
            with poller.watch_for_hang_up(file, lambda: pytest.fail("told")):  # type: ignore[arg-type]
                await trio.lowlevel.checkpoint()
        assert not poller._watched
