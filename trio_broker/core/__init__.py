"""Who gets what. Memory channels yes; sockets, bytes and protocols no.

- `broker`: the verbs. `register`: which channels exist. `local`: a subscription for a program's own tasks.
- `subscribing`: what may be asked of a subscription. `transaction`: publishing to several channels at once.
- `topic`, `queue`: choosing the receivers. `channel`: what both have in common. `line`: the publishers' line.
- `subscription`, `mailbox`, `outbox`: the way from a channel to an owner. `backlog`: what waits for a taker.
- `ledger`: what an owner has and is to settle.
- `memory`: the account of everything. `statistics`: what can be counted.
"""

from trio_broker.core.broker import Broker, open_broker
from trio_broker.core.channel import stall_reason
from trio_broker.core.ledger import Ledger
from trio_broker.core.local import LocalSubscription
from trio_broker.core.outbox import Outbox
from trio_broker.core.statistics import BrokerStatistics, ChannelStatistics, SubscriptionStatistics
from trio_broker.core.subscription import Subscription

__all__ = [
    "Broker",
    "BrokerStatistics",
    "ChannelStatistics",
    "Ledger",
    "LocalSubscription",
    "Outbox",
    "Subscription",
    "SubscriptionStatistics",
    "open_broker",
    "stall_reason",
]
