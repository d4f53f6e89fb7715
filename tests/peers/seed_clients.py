"""The seed's listener and sender on asyncio streams, for proving that any broker here still serves the seed's clients.

    python tests/peers/seed_clients.py listen --port 25000 --listen /topic/foo
    python tests/peers/seed_clients.py send --port 25000 --channel /topic/foo --interval 0.1

Options and printed lines are the seed's, and each line is flushed at once, so that a test can wait for it. The seed's
habits are kept too: the listener takes an empty frame for the end, and the sender never reads.

This file stands for a program of somebody who knows the protocol alone. It imports neither trio_broker nor the peer
beside it, so that no mistake in the framing can be shared and cancel out.
"""

import argparse
import asyncio
import contextlib
import itertools
import uuid
from collections.abc import Sequence

PREFIX_SIZE = 4
SHOWN_BYTES = 20
SILENT_CHANNEL = b"/null"


def say(line: str) -> None:
    """Print a line and flush it: whoever watches this process through a pipe must see it at once."""
    print(line, flush=True)  # noqa: T201 - these lines are the program's output


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Return the body of the next frame; `asyncio.IncompleteReadError` tells that the stream ended first."""
    prefix = await reader.readexactly(PREFIX_SIZE)
    return await reader.readexactly(int.from_bytes(prefix, "big"))


async def write_frame(writer: asyncio.StreamWriter, body: bytes) -> None:
    """Send one frame and wait, as the seed does, until the transport has room again."""
    writer.write(len(body).to_bytes(PREFIX_SIZE, "big") + body)
    await writer.drain()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close the connection and wait for it; that the other side was faster is no error here."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def listen(host: str, port: int, channel: str) -> None:
    """Subscribe to one channel and print the beginning of each message until the connection ends."""
    identity = uuid.uuid4().hex[:8]
    say(f"Starting up {identity}")
    reader, writer = await asyncio.open_connection(host, port)
    say(f"I am {writer.get_extra_info('sockname')}")
    try:
        await write_frame(writer, channel.encode())
        while payload := await read_frame(reader):
            say(f"Received by {identity}: {payload[:SHOWN_BYTES]!r}")
        say("Connection ended.")
    except (asyncio.IncompleteReadError, ConnectionError):
        say("Server closed.")
    finally:
        await hang_up(writer)


async def send(host: str, port: int, channel: str, interval: float, size: int) -> None:
    """Publish to one channel at an interval, for ever or until the server has gone."""
    identity = uuid.uuid4().hex[:8]
    say(f"Starting up {identity}")
    _, writer = await asyncio.open_connection(host, port)
    say(f"I am {writer.get_extra_info('sockname')}")
    target = channel.encode()
    try:
        await write_frame(writer, SILENT_CHANNEL)
        for number in itertools.count():
            await asyncio.sleep(interval)
            await write_frame(writer, target)
            await write_frame(writer, b"X" * size or f"Msg {number} from {identity}".encode())
    except OSError:
        say("Connection ended.")
    finally:
        await hang_up(writer)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the role and its options; names and defaults are the seed's."""
    parser = argparse.ArgumentParser(description="The seed's clients on asyncio streams.")
    roles = parser.add_subparsers(dest="role", required=True)
    listener = roles.add_parser("listen", help="print what arrives on a channel")
    listener.add_argument("--listen", default="/topic/foo", help="channel to subscribe to (default: %(default)s)")
    sender = roles.add_parser("send", help="publish to a channel at an interval")
    sender.add_argument("--channel", default="/topic/foo", help="channel to publish to (default: %(default)s)")
    sender.add_argument("--interval", type=float, default=1.0, help="seconds between messages (default: %(default)s)")
    sender.add_argument("--size", type=int, default=0, help="payload bytes; 0 sends numbered text (default: 0)")
    for role in (listener, sender):
        role.add_argument("--host", default="localhost", help="where the broker listens (default: %(default)s)")
        role.add_argument("--port", type=int, default=25000, help="its port (default: %(default)s)")
    return parser.parse_args(arguments)


def main() -> None:
    """Run the chosen client until it ends or Ctrl-C."""
    options = parse_arguments()
    try:
        if options.role == "listen":
            asyncio.run(listen(options.host, options.port, options.listen))
        else:
            asyncio.run(send(options.host, options.port, options.channel, options.interval, options.size))
    except KeyboardInterrupt:
        say("Bye!")


if __name__ == "__main__":
    main()
