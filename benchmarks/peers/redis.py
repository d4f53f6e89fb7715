"""Redis: https://redis.io/docs/latest/operate/oss_and_stack/management/config/."""

from benchmarks.harness.brokers import Recipe
from benchmarks.protocols.resp import RESP

# By default a subscriber with more than 32 MB waiting is disconnected.
CONFIGURATION = """\
bind 127.0.0.1
port $port
dir $folder
save ""
appendonly no
io-threads 1
maxclients 16000
tcp-backlog 4096
client-output-buffer-limit pubsub 0 0 0
"""

REDIS = Recipe(
    "redis",
    "Redis pub/sub",
    ("redis-server", "$folder/redis.conf"),
    RESP,
    files={"redis.conf": CONFIGURATION},
    version=("redis-server", "--version"),
)
