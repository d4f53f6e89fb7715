"""nats-server: https://docs.nats.io/running-a-nats-service/configuration."""

from benchmarks.harness.brokers import Recipe
from benchmarks.protocols.nats import NATS

# By default a subscriber with more than 64 MB waiting is disconnected, and a payload may have 1 MiB. A PING in the
# middle of a run would be counted as surplus. Without JetStream nothing is stored.
CONFIGURATION = """\
listen: "127.0.0.1:$port"
max_pending: 1GB
max_payload: 8MB
write_deadline: "60s"
ping_interval: "1h"
max_connections: 65536
"""

NATS_SERVER = Recipe(
    "nats",
    "nats-server",
    ("nats-server", "-c", "$folder/nats.conf"),
    NATS,
    files={"nats.conf": CONFIGURATION},
    environment={"GOMAXPROCS": "1"},
    version=("nats-server", "--version"),
)
