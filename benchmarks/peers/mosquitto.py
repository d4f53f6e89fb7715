"""Mosquitto: https://mosquitto.org/man/mosquitto-conf-5.html."""

from benchmarks.harness.brokers import Recipe
from benchmarks.protocols.mqtt import MQTT

# By default a subscriber with more than 1,000 messages waiting loses some.
CONFIGURATION = """\
listener $port 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay true
log_type error
log_type warning
"""

MOSQUITTO = Recipe(
    "mosquitto",
    "Mosquitto, QoS 0",
    ("mosquitto", "-c", "$folder/mosquitto.conf"),
    MQTT,
    files={"mosquitto.conf": CONFIGURATION},
    version=("mosquitto", "-h"),
)
