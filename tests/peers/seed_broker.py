"""The seed's first broker on asyncio streams: what trio_broker started from, to compare with and to measure against.

    python tests/peers/seed_broker.py --port 0

It prints `Serving on HOST:PORT` once it listens, then the seed's lines. `--quiet` leaves out the line per message: a
measurement should not charge the seed for its printing.

The seed's faults are kept on purpose. A handler sends straight to the subscribers' writers and waits for all of them,
so one slow subscriber stalls its publishers and a broken one ends the publisher's connection; an empty channel frame
ends the connection; any announced length is believed.

This file stands for a program of somebody who knows the protocol alone. It imports neither trio_broker nor the peer
beside it, so that no mistake in the framing can be shared and cancel out.
"""

import argparse
import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import Sequence

PREFIX_SIZE = 4
SHOWN_BYTES = 19
QUEUE_PREFIX = b"/queue"


def say(line: str) -> None:
    """Print a line and flush it: whoever watches this process through a pipe must see it at once."""
    print(line, flush=True)  # noqa: T201 - these lines are the program's output


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Return the next frame's body, however long it claims to be; `IncompleteReadError` tells of the stream's end."""
    prefix = await reader.readexactly(PREFIX_SIZE)
    return await reader.readexactly(int.from_bytes(prefix, "big"))


async def write_frame(writer: asyncio.StreamWriter, body: bytes) -> None:
    """Send one frame and wait, as the seed does, until the transport has room again."""
    writer.write(len(body).to_bytes(PREFIX_SIZE, "big") + body)
    await writer.drain()


class SeedBroker:
    """The subscribers of each channel, and the handler that runs once for each connection."""

    def __init__(self, *, quiet: bool = False) -> None:
        """Start without channels; `quiet` leaves out the line that is printed for each message."""
        self._quiet = quiet
        self._channels: defaultdict[bytes, deque[asyncio.StreamWriter]] = defaultdict(deque)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection from its subscription to its end."""
        peer = writer.get_extra_info("peername")
        try:
            subscription = await read_frame(reader)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()
            return
        subscribers = self._channels[subscription]
        subscribers.append(writer)
        say(f"Remote {peer} subscribed to {subscription!r}")
        try:
            await self._relay(reader)
        except asyncio.CancelledError:  # noqa: ASYNC103 - as in the seed: on Python 3.11 streams log a handler cancelled
            say(f"Remote {peer} closing connection.")
        except asyncio.IncompleteReadError:
            say(f"Remote {peer} disconnected")
        except OSError:
            # A subscriber that broke, or this peer: the seed cannot tell them apart, and either ends this handler.
            pass
        finally:
            say(f"Remote {peer} closed")
            subscribers.remove(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _relay(self, reader: asyncio.StreamReader) -> None:
        """Pass on each pair of frames to the channel's subscribers, one pair at a time."""
        while channel := await read_frame(reader):
            payload = await read_frame(reader)
            if not self._quiet:
                say(f"Sending to {channel!r}: {payload[:SHOWN_BYTES]!r}...")
            targets = self._targets(channel)
            await asyncio.gather(*(write_frame(target, payload) for target in targets))

    def _targets(self, channel: bytes) -> list[asyncio.StreamWriter]:
        """Return who gets the next message: the next in turn for a queue, everybody for a topic."""
        subscribers = self._channels[channel]
        if subscribers and channel.startswith(QUEUE_PREFIX):
            subscribers.rotate()
            return [subscribers[0]]
        return list(subscribers)


async def serve(host: str, port: int, *, quiet: bool = False) -> None:
    """Listen and serve until cancelled."""
    broker = SeedBroker(quiet=quiet)
    server = await asyncio.start_server(broker.handle, host, port)
    bound_host, bound_port = server.sockets[0].getsockname()[:2]
    say(f"Serving on {bound_host}:{bound_port}")
    try:
        # Not serve_forever(): from Python 3.12 its cancellation waits for the connections before anyone ends them.
        await asyncio.get_running_loop().create_future()
    finally:
        server.close()


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; address and port default to the seed's."""
    parser = argparse.ArgumentParser(description="The seed's first broker on asyncio streams.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=25000, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="print no line per message")
    return parser.parse_args(arguments)


def main() -> None:
    """Serve until Ctrl-C."""
    options = parse_arguments()
    try:
        asyncio.run(serve(options.host, options.port, quiet=options.quiet))
    except KeyboardInterrupt:
        say("Bye!")


if __name__ == "__main__":
    main()
