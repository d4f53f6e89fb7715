from collections import Counter

import pytest

from benchmarks.harness.latency import Log
from benchmarks.harness.traffic import (
    NAME_LENGTHS,
    interleaved_traffic,
    uniform_traffic,
    varied_channel,
    varied_traffic,
)
from benchmarks.harness.wire import FRAMED
from trio_broker.limits import Limits


def frames(stream: bytes) -> list[bytes]:
    found = []
    while stream:
        size = int.from_bytes(stream[:4], "big")
        found.append(stream[4 : 4 + size])
        stream = stream[4 + size :]
    return found


def test_uniform_traffic_is_one_message() -> None:
    traffic = uniform_traffic(FRAMED, "/topic/t", 3)
    assert frames(traffic.cycle) == [b"/topic/t", b"XXX"]
    assert [frames(each) for each in traffic.deliveries] == [[b"XXX"]]
    assert traffic.messages == 1
    assert traffic.shares == (1,)


def test_every_channel_gets_every_size_and_what_it_is_due_in_order() -> None:
    channels = [f"/topic/{number}" for number in range(16)]
    traffic = interleaved_traffic(FRAMED, channels, [16, 64, 256, 1024, 4096], 1)
    sent = frames(traffic.cycle)
    pairs = list(zip(sent[::2], sent[1::2], strict=True))
    assert len(pairs) == traffic.messages == 80
    assert [channel.decode() for channel, _ in pairs[:16]] == channels
    for place, channel in enumerate(channels):
        payloads = [payload for name, payload in pairs if name.decode() == channel]
        assert frames(traffic.deliveries[place]) == payloads
        assert Counter(map(len, payloads)) == dict.fromkeys([16, 64, 256, 1024, 4096], 1)
        assert traffic.shares[place] == len(payloads)
    assert len({payload for _, payload in pairs}) == 80


def test_a_burst_goes_to_one_channel_before_the_next() -> None:
    traffic = interleaved_traffic(FRAMED, ["/topic/a", "/topic/b"], [8], 3)
    assert frames(traffic.cycle)[::2] == [b"/topic/a"] * 3 + [b"/topic/b"] * 3


@pytest.mark.parametrize("size", [16, 128, 4096, 65536])
def test_varied_payloads_differ_and_have_the_nominal_size_on_average(size: int) -> None:
    traffic = varied_traffic(FRAMED, "/topic/t", size)
    payloads = frames(traffic.cycle)[1::2]
    sizes = [len(payload) for payload in payloads]
    assert sum(sizes) == size * len(sizes)
    assert size // 2 <= min(sizes) < size < max(sizes) <= size + size // 2
    assert len(set(sizes)) >= min(size // 2, 20)
    assert sizes != sorted(sizes)
    assert len(set(payloads)) == len(payloads) == traffic.messages == traffic.shares[0]
    assert frames(traffic.deliveries[0]) == payloads
    assert list(traffic.parts[0]) == [FRAMED.delivery("/topic/t", payload) for payload in payloads]


def test_varied_names_are_random_have_many_lengths_and_can_be_named_again() -> None:
    names = [varied_channel("/queue/bench/", number) for number in range(12)]
    assert names == [varied_channel("/queue/bench/", number) for number in range(12)]
    assert len({name[13:20] for name in names}) == 12
    assert [len(name) for name in names] == 2 * list(NAME_LENGTHS)
    assert max(NAME_LENGTHS) <= Limits().channel_bytes_max
    assert all(name.startswith("/queue/bench/") and name[13:].isalnum() for name in names)


def test_at_a_fixed_rate_a_message_is_late_from_when_it_was_due() -> None:
    # Due at 10.0, 10.5, 11.0 and 11.5. Nothing came for two seconds, then all at once: each is charged its own wait.
    log = Log(10.0, [(12.0, 400)], [])
    assert log.latencies(100, 2.0) == [2.0, 1.5, 1.0, 0.5]


def test_a_message_arrives_with_its_last_byte() -> None:
    log = Log(10.0, [(11.0, 99), (12.0, 199), (13.0, 200)], [])
    assert log.latencies(100, 1.0) == [2.0, 2.0]


def test_one_at_a_time_a_message_is_late_from_when_it_was_sent() -> None:
    log = Log(10.0, [(10.2, 100), (11.5, 200)], [10.0, 11.0])
    assert [round(each, 6) for each in log.latencies(100, None)] == [0.2, 0.5]
