"""The subscriber that stops reading: what is said of it, and that the broker's own rule is what ends it."""

import os
import select
import socket
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from benchmarks.harness import stuck
from benchmarks.harness.audience import Audience, Subscriber
from benchmarks.harness.brokers import SEED, TRIO, running_broker
from benchmarks.harness.load import LoadError, Outcome
from benchmarks.harness.placement import choose_placement
from benchmarks.harness.rounds import Sample
from benchmarks.harness.stuck import StuckWork, await_end
from benchmarks.harness.wire import FRAMED

WORK = StuckWork("stuck", "stuck", 4096)
QUICK = replace(TRIO, command=(*TRIO.command, "--stall-seconds-max", "0.5"))


@pytest.fixture
def _same_cpus() -> Iterator[None]:
    """Give this process its CPUs back after a broker was placed."""
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


def sample(elapsed: float) -> Sample:
    return Sample("trio", Outcome(1000, 1000, 1000, elapsed, 0.1, ()), 1.0, 0.1)


def test_the_figures_are_what_the_flood_took_longer_and_the_ratio_of_the_middle_rates() -> None:
    before, after = [sample(elapsed) for elapsed in (2.0, 9.0, 1.0)], [sample(elapsed) for elapsed in (4.0, 1.0, 8.0)]
    reading = WORK.reading(before, sample(12.5), after, 3.5, 77)
    assert reading.figures == {"peak": 3.5, "eviction": 10.5, "after": 0.5}
    assert reading.details == {"rate_before": 500.0, "rate_after": 250.0, "stuck_bytes": 77.0}
    assert set(reading.figures) == {figure.key for figure in WORK.figures}


def audience_of_one(sock: socket.socket) -> Audience:
    audience = Audience(("127.0.0.1", 1), FRAMED, ["/topic/t"], subscribers=1, publishers=0)
    audience.subscribers[sock.fileno()] = Subscriber(sock, "subscriber 0", 0)
    audience.poller.register(sock.fileno(), select.EPOLLIN)
    sock.setblocking(False)
    return audience


def test_what_was_on_its_way_is_read_up_to_the_end() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(b"12345")
        theirs.close()
        audience = audience_of_one(ours)
        assert await_end(audience) == 5
        audience.poller.close()


def test_a_stuck_subscriber_that_is_not_disconnected_is_no_result() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"12345")
        audience = audience_of_one(ours)
        with pytest.raises(LoadError, match="was not disconnected, 5 bytes after"):
            await_end(audience, 0.01)
        audience.poller.close()


def test_who_does_something_else_about_it_is_left_out() -> None:
    assert WORK.obstacle(TRIO) is None
    assert "marks" in (WORK.obstacle(SEED) or "")


@pytest.mark.usefixtures("_same_cpus")
def test_our_broker_evicts_it_by_its_own_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuck, "SAMPLES", 1)
    with WORK.open(QUICK, partial(running_broker, placement=choose_placement()), 0.1) as read:
        reading = read()
    assert 0.3 < reading.figures["eviction"] < 5
    assert 0 < reading.details["stuck_bytes"] < 32 << 20
    assert reading.figures["after"] > 0
    assert reading.figures["peak"] < 32
