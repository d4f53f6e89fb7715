"""`connect`: the same verbs as the broker in process, over a socket.

- `framed`: the framed protocol, one connection a subscription.
"""

from trio_broker.client.framed import Client, RemoteSubscription, connect, open_subscription

__all__ = ["Client", "RemoteSubscription", "connect", "open_subscription"]
