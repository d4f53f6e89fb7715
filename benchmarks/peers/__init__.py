"""Other people's servers, and the seed's on another event loop: how each is started for a comparison.

All keep everything in memory, write no log of single messages, and use one CPU: that of the broker, unless the recipe
says otherwise. Marks beyond which a server would drop a subscriber or a message are lifted, since a flood without
losses is what is compared.
"""

from benchmarks.harness.brokers import RECIPES
from benchmarks.peers.mosquitto import MOSQUITTO
from benchmarks.peers.nats import NATS_SERVER
from benchmarks.peers.rabbitmq import RABBITMQ, RABBITMQ_STOMP
from benchmarks.peers.redis import REDIS
from benchmarks.peers.seed_uvloop import SEED_UVLOOP

ALL_RECIPES = {
    **RECIPES,
    **{recipe.name: recipe for recipe in (SEED_UVLOOP, NATS_SERVER, REDIS, MOSQUITTO, RABBITMQ, RABBITMQ_STOMP)},
}
