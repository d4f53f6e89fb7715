"""RabbitMQ with its MQTT plugin: https://www.rabbitmq.com/docs/mqtt and https://www.rabbitmq.com/docs/relocate.

MQTT rather than STOMP, because a STOMP delivery of RabbitMQ's carries a number that grows by a digit now and then, and
a load that only counts bytes needs deliveries of one length. The node has a name, folders and a port mapper of its own,
so that it meets no other node of the machine.
"""

from benchmarks.harness.brokers import Recipe
from benchmarks.protocols.mqtt import MQTT

# Nobody else may connect to its AMQP port, so it has none. The guest account is its default one, for loopback only.
CONFIGURATION = """\
listeners.tcp = none
mqtt.listeners.tcp.1 = 127.0.0.1:$port
mqtt.allow_anonymous = true
mqtt.default_user = guest
mqtt.default_pass = guest
mqtt.vhost = /
log.console = true
log.console.level = warning
log.file = false
vm_memory_high_watermark.relative = 0.6
disk_free_limit.absolute = 50MB
"""

# The port mapper is started here: Erlang would start one that outlives the node.
START = """\
mkdir mnesia log
epmd -address 127.0.0.1 -port $other_port &
mapper=$$!
rabbitmq-server &
server=$$!
trap 'kill -TERM $$server' INT TERM
wait $$server
wait $$server
kill $$mapper
wait $$mapper
"""

RABBITMQ = Recipe(
    "rabbitmq",
    "RabbitMQ, MQTT QoS 0",
    ("sh", "$folder/start.sh"),
    MQTT,
    needs=("rabbitmq-server", "epmd"),
    files={
        "rabbitmq.conf": CONFIGURATION,
        "enabled_plugins": "[rabbitmq_mqtt].\n",
        "start.sh": START,
    },
    environment={
        "ERL_EPMD_PORT": "$other_port",
        "HOME": "$folder",
        "RABBITMQ_NODENAME": "bench$port@localhost",
        "RABBITMQ_CONFIG_FILE": "$folder/rabbitmq.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": "$folder/enabled_plugins",
        "RABBITMQ_MNESIA_BASE": "$folder/mnesia",
        "RABBITMQ_LOG_BASE": "$folder/log",
        "ERL_CRASH_DUMP_SECONDS": "0",
        "RABBITMQ_PID_FILE": "$folder/pid",
        # One scheduler that sleeps when it has nothing to do: idle Erlang schedulers spin.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
    },
    version=("dpkg-query", "-W", "-f=${Version}", "rabbitmq-server"),
    start_seconds=60.0,
)
