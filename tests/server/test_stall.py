"""The stall rule's clock: it runs while a write blocks, is renewed by movement, and stops when nothing waits."""

import math

import pytest
import trio
from trio.testing import MockClock

from trio_broker import Limits
from trio_broker.server.stall import StallClock

LIMITS = Limits(stall_seconds_max=10, stall_bytes_min=1000)


class Kernel:
    """What the system holds because the peer does not take it."""

    def __init__(self) -> None:
        self.unsent_bytes = 0

    def tell(self) -> int:
        return self.unsent_bytes


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


async def test_stands_still_until_it_is_started(mock_clock: MockClock, kernel: Kernel) -> None:
    clock = StallClock(LIMITS, kernel.tell)
    assert not clock.runs
    assert clock.deadline == math.inf
    clock.move(5000)
    assert not clock.runs
    clock.start()
    assert clock.runs
    assert clock.deadline == 10


async def test_starting_again_gives_no_more_time(mock_clock: MockClock, kernel: Kernel) -> None:
    clock = StallClock(LIMITS, kernel.tell)
    clock.start()
    mock_clock.jump(9)
    clock.start()
    assert clock.deadline == 10


async def test_only_enough_movement_renews(mock_clock: MockClock, kernel: Kernel) -> None:
    """Bytes add up over several writes, and start from nothing when the clock was renewed."""
    clock = StallClock(LIMITS, kernel.tell)
    clock.start()
    mock_clock.jump(3)
    clock.move(999)
    assert clock.deadline == 10
    clock.move(1)
    assert clock.deadline == 13
    mock_clock.jump(3)
    clock.move(999)
    assert clock.deadline == 13
    clock.move(1)
    assert clock.deadline == 16


async def test_what_moved_before_the_start_does_not_count_twice(mock_clock: MockClock, kernel: Kernel) -> None:
    clock = StallClock(LIMITS, kernel.tell)
    clock.move(999)
    clock.start()
    clock.move(1)
    assert clock.deadline == 10
    assert clock.expire()


async def test_stopped_and_started_anew(mock_clock: MockClock, kernel: Kernel) -> None:
    clock = StallClock(LIMITS, kernel.tell)
    clock.start()
    mock_clock.jump(9)
    clock.stop()
    assert not clock.runs
    mock_clock.jump(100)
    clock.start()
    assert clock.deadline == 119


@pytest.mark.parametrize(("taken_bytes", "stalled"), [(0, True), (999, True), (1000, False)])
async def test_what_the_system_got_rid_of_is_movement_too(
    mock_clock: MockClock, kernel: Kernel, taken_bytes: int, stalled: bool
) -> None:
    """The system reports no room for a long time while the peer takes bytes all the while."""
    clock = StallClock(LIMITS, kernel.tell)
    kernel.unsent_bytes = 5000
    clock.start()
    kernel.unsent_bytes -= taken_bytes
    mock_clock.jump(10)
    assert clock.expire() is stalled
    assert clock.deadline == (10 if stalled else 20)


async def test_bytes_that_only_went_from_us_to_the_system_are_counted_once(
    mock_clock: MockClock, kernel: Kernel
) -> None:
    clock = StallClock(LIMITS, kernel.tell)
    kernel.unsent_bytes = 5000
    clock.start()
    clock.move(900)
    kernel.unsent_bytes += 900  # the peer took nothing
    assert trio.current_time() == 0
    mock_clock.jump(10)
    assert clock.expire()
