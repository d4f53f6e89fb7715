"""A listener in a few lines: subscribe to a channel and print the beginning of each message.

python scripts/mq_client_listen.py --listen /queue/blah
"""

import argparse
import uuid

import trio

import trio_broker


async def main(arguments: argparse.Namespace) -> None:
    """Listen until the broker ends or we are interrupted."""
    me = uuid.uuid4().hex[:8]
    print(f"Starting up {me}")
    # Each subscription has a connection of its own. It lasts as long as its block: however we leave it, by the end of
    # the messages, an error or Ctrl-C, the broker stops sending to us.
    async with (
        trio_broker.connect(arguments.host, arguments.port, protocol="framed") as client,
        client.subscribe(arguments.listen) as subscription,
    ):
        print(f"I am {subscription.local_address}")
        # The loop ends when the broker ends the connection in order. If it breaks, trio.BrokenResourceError is raised.
        async for message in subscription:
            print(f"Received by {me}: {message.body[:20]!r}")
        print("Connection ended.")
    print("Server closed.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print what arrives on a channel.")
    parser.add_argument("--host", default="localhost", help="where the broker is (default: %(default)s)")
    parser.add_argument("--port", default=25000, type=int, help="its port (default: %(default)s)")
    parser.add_argument("--listen", default="/topic/foo", help="the channel (default: %(default)s)")
    try:
        trio.run(main, parser.parse_args())
    except* KeyboardInterrupt:  # perhaps in a group: what ends one of several tasks leaves their nursery in one
        print("Bye!")
