"""``trio-broker demo``: a broker, four listeners and two senders, each a process of its own, and what came of it."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, final

import click
import trio
from rich.console import Console
from rich.table import Table

from trio_broker.cli.children import Cast, Child, DemonstrationFailed
from trio_broker.cli.options import SECONDS, option
from trio_broker.cli.terminal import run
from trio_broker.cli.verdict import fan_out_fault, rotation_fault

__all__ = ["demo_command"]

_QUEUE: Final = "/queue/blah"
_TOPIC: Final = "/topic/foo"
_SECONDS_MAX: Final = 30
_RECEIVED: Final = re.compile(r"Received by [0-9a-f]{8}: b'Msg ([0-9]+) from")
_SERVING: Final = re.compile(r"Serving on 127\.0\.0\.1:([0-9]+)")


@click.command("demo", short_help="Show the broker at work, with real processes.")
@option("--queue-count", type=click.IntRange(1, 100), default=10, metavar="N", help="Messages for the queue.")
@option("--topic-count", type=click.IntRange(1, 100), default=6, metavar="N", help="Messages for the topic.")
@option("--interval", type=SECONDS, default=0.1, help="Seconds between the messages of a sender.")
def demo_command(queue_count: int, topic_count: int, interval: float) -> int:
    """Show the broker at work, with real processes: a broker on a free port, two listeners on /queue/blah, two on
    /topic/foo, and a sender for each channel. At the end the broker is stopped by Ctrl-C, and everyone ends in order.

    The messages of the queue must have alternated between its listeners, each message received once, and those of the
    topic must all have reached both listeners, in order. The status is 0 if that is so, and 1 otherwise.

    \b
    Examples:
      trio-broker demo
      trio-broker demo --queue-count 100 --topic-count 100 --interval 0
    """
    longest = interval * max(queue_count, topic_count)
    demonstration = _Demonstration(queue_count, topic_count, interval)
    failures: tuple[Exception, ...] = ()
    try:
        return run(demonstration.perform, _SECONDS_MAX + longest)
    except* DemonstrationFailed as group:
        failures = group.exceptions
    raise click.ClickException("; ".join(map(str, failures)))


@final
class _Demonstration:
    def __init__(self, queue_count: int, topic_count: int, interval: float) -> None:
        self._counts = {_QUEUE: queue_count, _TOPIC: topic_count}
        self._interval = interval
        self._console = Console(highlight=False)
        self._listeners: dict[str, list[Child]] = {_QUEUE: [], _TOPIC: []}
        self._doing = ""  # what is being waited for

    async def perform(self, seconds_max: float) -> int:
        """Show it; returns the exit status. No process is left behind, however this ends.

        Raises:
            DemonstrationFailed: a process died, or did not do its part in time.
        """
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            try:
                with trio.fail_after(seconds_max):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(_fail_at_signal, signals)
                        await self._play(Cast(nursery, self._console, _show_log))
                        nursery.cancel_scope.cancel(reason="the demonstration is over")
            except trio.TooSlowError:
                raise DemonstrationFailed(f"gave up after {seconds_max:g} s {self._doing}") from None
        return self._judge()

    async def _play(self, cast: Cast) -> None:
        self._doing = "of waiting for the broker to listen"
        broker = await cast.start(
            "broker", "serve", "--host", "127.0.0.1", "--port", "0", "--log-level", "info", "--log-format", "json"
        )
        await cast.until(lambda: any(map(_SERVING.fullmatch, broker.lines)))
        port = next(match[1] for match in map(_SERVING.fullmatch, broker.lines) if match)
        address = ("--host", "127.0.0.1", "--port", port)

        # The protocol does not tell a listener that the broker has registered it; the broker's log does.
        self._doing = "of waiting for the listeners to be subscribed"
        for channel, name in ((_QUEUE, "queue listener"), (_TOPIC, "topic listener")):
            for number in (1, 2):
                listener = await cast.start(f"{name} {number}", "listen", *address, "--listen", channel)
                self._listeners[channel].append(listener)
        wanted = sum(len(listeners) for listeners in self._listeners.values())
        await cast.until(lambda: _subscribed(broker.log) == wanted)

        self._doing = "of waiting for the senders to end"
        senders = []
        for channel, name in ((_QUEUE, "queue sender"), (_TOPIC, "topic sender")):
            pace = ("--interval", str(self._interval), "--count", str(self._counts[channel]))
            sender = await cast.start(name, "send", *address, "--channel", channel, *pace)
            sender.may_end = True
            senders.append(sender)
        await cast.until(lambda: all(sender.ended for sender in senders))
        self._doing = "of waiting for the messages to arrive"
        await cast.until(self._all_received)

        self._doing = "of waiting for everyone to end"
        cast.now_all_may_end()
        broker.process.send_signal(signal.SIGINT)
        await cast.all_ended()

    def _all_received(self) -> bool:
        queue = sum(len(numbers) for numbers in self._received(_QUEUE).values())
        topic = [len(numbers) for numbers in self._received(_TOPIC).values()]
        return queue >= self._counts[_QUEUE] and min(topic) >= self._counts[_TOPIC]

    def _received(self, channel: str) -> dict[str, list[int]]:
        """The numbers of the messages that each listener of a channel has printed, in order."""
        return {listener.name: _numbers(listener.lines) for listener in self._listeners[channel]}

    def _judge(self) -> int:
        """Show who received what, and whether that was right; returns the exit status."""
        queue, topic = self._received(_QUEUE), self._received(_TOPIC)
        self._console.print()
        self._console.print(_summary({_QUEUE: queue, _TOPIC: topic}))
        faults = (
            (_QUEUE, "each message once, in turn", rotation_fault(queue, self._counts[_QUEUE])),
            (_TOPIC, "every message to every listener, in order", fan_out_fault(topic, self._counts[_TOPIC])),
        )
        for channel, promise, fault in faults:
            verdict = f"right: {promise}" if fault is None else f"WRONG: {fault}"
            self._console.print(f"{channel}: {verdict}", style="green" if fault is None else "bold red", soft_wrap=True)
        return 0 if all(fault is None for _, _, fault in faults) else 1


async def _fail_at_signal(signals: AsyncIterator[int]) -> None:
    number = await anext(signals)
    raise DemonstrationFailed(f"stopped by {signal.Signals(number).name}")


def _summary(received: Mapping[str, Mapping[str, Sequence[int]]]) -> Table:
    table = Table(title="Who received what", title_justify="left")
    table.add_column("channel")
    table.add_column("listener")
    table.add_column("messages", justify="right")
    table.add_column("their numbers, in order of arrival")
    for channel, listeners in received.items():
        for name, numbers in listeners.items():
            table.add_row(channel, name, str(len(numbers)), " ".join(map(str, numbers)))
    return table


def _numbers(lines: Sequence[str]) -> list[int]:
    return [int(match[1]) for match in map(_RECEIVED.match, lines) if match]


def _subscribed(log: Sequence[str]) -> int:
    """How many subscriptions to the demonstration's channels a broker's log tells of."""
    records = [record for record in map(_parse, log) if record is not None]
    return sum(record.get("event") == "subscribed" and record.get("channel") in {_QUEUE, _TOPIC} for record in records)


def _show_log(line: str) -> str | None:
    """A line of stderr as people read it: a record of the broker's log without its time, or the line itself."""
    record = _parse(line)
    if record is None:
        return line
    details = " ".join(f"{key}={value}" for key, value in record.items() if key not in {"event", "level", "timestamp"})
    return f"{record.get('event')} {details}"


def _parse(line: str) -> dict[str, object] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
