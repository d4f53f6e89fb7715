"""A message broker on Trio.

The whole public API is on this page::

    async with trio_broker.open_broker() as broker:                     # in process, no socket
        async with broker.subscribe("/topic/news") as news:             # a trio.abc.ReceiveChannel of Message
            await broker.publish("/topic/news", b"hello")
            message = await news.receive()

        server = await nursery.start(functools.partial(trio_broker.serve, broker, port=0))
        async with trio_broker.connect("127.0.0.1", server.port) as client:     # the same verbs, over the network
            await client.publish("/queue/jobs", b"...")

A channel whose name starts with ``/queue`` is a *queue*: each message goes to one subscription, in rotation. Every
other name is a *topic*: each message goes to all.

A map of the house. A module imports from its own room and from lower floors; rooms on one floor cannot see each other::

    5   cli                         argv, signals, environment
    4   server     client  conform  tasks and sockets; conform checks any STOMP broker
    3   core       wire             who gets what; bytes <-> commands
    1   explorer                    cancels any Trio program at every checkpoint
    0   message  headers            the values that flow
        errors   limits             what can go wrong, every limit

A message's way: ``server/reader.py`` reads bytes; ``wire/framed.py`` or ``wire/stomp_server.py`` turns them into
batches; ``core/topic.py`` or ``core/queue.py`` chooses the receivers and puts each batch into the ``core/mailbox.py``
of their ``core/subscription.py``, which names itself in its connection's ``core/outbox.py``; there the other end's
connection waits, takes it, and writes.
"""

from trio_broker.client import (
    BackOff,
    Client,
    Permit,
    Receipt,
    RemoteSubscription,
    StompClient,
    StompSubscription,
    Transaction,
    connect,
    run_reconnecting,
)
from trio_broker.core import (
    Broker,
    BrokerStatistics,
    ChannelStatistics,
    LocalSubscription,
    SubscriptionStatistics,
    open_broker,
)
from trio_broker.errors import (
    BrokerDraining,
    BrokerError,
    InvalidChannel,
    LimitReached,
    MessageTooLarge,
    NotOutstanding,
    ProtocolViolation,
    PublishStalled,
    ServerRefused,
    SubscriptionEvicted,
)
from trio_broker.limits import Limits, Overflow
from trio_broker.message import AckMode, Message
from trio_broker.server import DrainReport, Server, serve

__version__ = "0.1.0"

__all__ = [
    "AckMode",
    "BackOff",
    "Broker",
    "BrokerDraining",
    "BrokerError",
    "BrokerStatistics",
    "ChannelStatistics",
    "Client",
    "DrainReport",
    "InvalidChannel",
    "LimitReached",
    "Limits",
    "LocalSubscription",
    "Message",
    "MessageTooLarge",
    "NotOutstanding",
    "Overflow",
    "Permit",
    "ProtocolViolation",
    "PublishStalled",
    "Receipt",
    "RemoteSubscription",
    "Server",
    "ServerRefused",
    "StompClient",
    "StompSubscription",
    "SubscriptionEvicted",
    "SubscriptionStatistics",
    "Transaction",
    "connect",
    "open_broker",
    "run_reconnecting",
    "serve",
]
