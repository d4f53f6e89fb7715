"""A sender in a few lines: publish to a channel, for ever.

python scripts/mq_client_sender.py --channel /queue/blah --interval 0.5
"""

import argparse
import itertools
import uuid

import trio

import trio_broker


async def main(arguments: argparse.Namespace) -> None:
    """Send until the broker ends or we are interrupted."""
    me = uuid.uuid4().hex[:8]
    print(f"Starting up {me}")
    # Leaving the block in order sends what was handed over and then closes the connection.
    async with trio_broker.connect(arguments.host, arguments.port, protocol="framed") as client:
        print(f"I am {client.local_address}")
        for number in itertools.count():
            await trio.sleep(arguments.interval)
            message = b"X" * arguments.size or f"Msg {number} from {me}".encode()
            # Waits while the broker takes nothing, so that an endless loop cannot fill our memory.
            await client.publish(arguments.channel, message)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Publish to a channel.")
    parser.add_argument("--host", default="localhost", help="where the broker is (default: %(default)s)")
    parser.add_argument("--port", default=25000, type=int, help="its port (default: %(default)s)")
    parser.add_argument("--channel", default="/topic/foo", help="the channel (default: %(default)s)")
    parser.add_argument("--interval", default=1, type=float, help="seconds between messages (default: %(default)s)")
    parser.add_argument("--size", default=0, type=int, help="bytes of a message; 0 for numbered text (default: 0)")
    try:
        trio.run(main, parser.parse_args())
    except* trio.BrokenResourceError:  # the broker has gone
        print("Connection ended.")
    except* KeyboardInterrupt:  # perhaps in a group: what ends one of several tasks leaves their nursery in one
        print("Bye!")
