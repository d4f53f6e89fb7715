"""`connect`: the same verbs as the broker in process, over a socket.

- `framed`: the framed protocol; `framed_subscription`: one connection a subscription.
- `stomp`: STOMP 1.2, everything over one connection, whose block is in `stomp_opening`. Below it `stomp_link` (the
  connection's reader, and who waits for what comes), `stomp_outgoing` (its writer), `stomp_greeting`, `stomp_ending`,
  `stomp_message`, `stomp_unconfirmed`, and what a program holds in its hands: `stomp_publishing`, `stomp_subscription`
  with `stomp_settlements`, `stomp_requests`, `stomp_transaction`.
- `connecting`: either of them. `reconnecting`: again, when a connection is lost. Both protocols share `opening` (of a
  socket) and `checking` (of what a program gives).
"""

from trio_broker.client.connecting import connect
from trio_broker.client.framed import Client
from trio_broker.client.framed_subscription import RemoteSubscription, open_subscription
from trio_broker.client.reconnecting import BackOff, run_reconnecting
from trio_broker.client.stomp import StompClient
from trio_broker.client.stomp_publishing import Permit, Receipt
from trio_broker.client.stomp_subscription import StompSubscription
from trio_broker.client.stomp_transaction import Transaction

__all__ = [
    "BackOff",
    "Client",
    "Permit",
    "Receipt",
    "RemoteSubscription",
    "StompClient",
    "StompSubscription",
    "Transaction",
    "connect",
    "open_subscription",
    "run_reconnecting",
]
