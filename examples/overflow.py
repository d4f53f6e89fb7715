"""What each overflow policy makes of ten messages for a subscription that does not receive and has room for seven.

Prints::

    block         0123456     then publish would wait
    drop_oldest   456789      4 dropped
    drop_newest   0123456     3 dropped
    latest        9           9 dropped
    disconnect                evicted
"""

import trio

import trio_broker
from trio_broker import Limits, Overflow

ROOM = Limits(mailbox_bytes_max=4_000)  # in cost: a message published alone costs its bytes and 576 more


async def show(policy: Overflow) -> None:
    """Publish ten messages to one subscription with this policy, then see what it has."""
    kept, end = "", ""
    async with trio_broker.open_broker(ROOM) as broker, broker.subscribe("/topic/t", overflow=policy) as messages:
        try:
            for number in range(10):
                broker.publish_nowait("/topic/t", b"%d" % number)
        except trio.WouldBlock:
            end = "then publish would wait"
        try:
            for _ in range(10):
                kept += messages.receive_nowait().body.decode()
        except trio.WouldBlock:
            end = end or f"{messages.statistics().dropped} dropped"
        except trio_broker.SubscriptionEvicted:
            end = "evicted"
    print(f"{policy:<12}  {kept:<10}  {end}")


if __name__ == "__main__":
    for each in Overflow:
        trio.run(show, each)
