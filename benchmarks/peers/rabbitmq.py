"""RabbitMQ with its MQTT plugin, and with its STOMP plugin: https://www.rabbitmq.com/docs/mqtt, .../stomp.

With MQTT it has one CPU, as all others have, and its deliveries have lengths that are known, so that it takes part in
all works of topics. With STOMP it is what trio_broker's own STOMP is held against, and there it has **both CPUs**, as
it is meant to be run: two schedulers, and of the load's CPU what the load leaves. Two CPUs of its own would take a
machine with three. `load_busy` tells what it could not have: about a sixth of one CPU at its rates.

A node has a name, folders, a port for other nodes and a port mapper of its own, so that it meets none that is on the
machine already.
"""

from benchmarks.harness.brokers import Recipe
from benchmarks.harness.wire import Wire
from benchmarks.protocols.mqtt import MQTT
from benchmarks.protocols.stomp import STOMP

# Nobody else may connect to its AMQP port, so it has none. The guest account is its default one, for loopback only.
CONFIGURATION = """\
listeners.tcp = none
log.console = true
log.console.level = warning
log.file = false
vm_memory_high_watermark.relative = 0.6
disk_free_limit.absolute = 50MB
"""

MQTT_CONFIGURATION = """\
mqtt.listeners.tcp.1 = 127.0.0.1:$port
mqtt.allow_anonymous = true
mqtt.default_user = guest
mqtt.default_pass = guest
mqtt.vhost = /
"""

STOMP_CONFIGURATION = """\
stomp.listeners.tcp.1 = 127.0.0.1:$port
stomp.default_user = guest
stomp.default_pass = guest
"""

# Idle Erlang schedulers spin; and other nodes are listened for on the loopback interface only.
ARGUMENTS = "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
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


def _recipe(name: str, label: str, wire: Wire, plugin: str, configuration: str, *, both_cpus: bool) -> Recipe:
    """Return a node with one plugin and as many schedulers as CPUs."""
    schedulers = "2:2" if both_cpus else "1:1"
    return Recipe(
        name,
        label,
        ("sh", "$folder/start.sh"),
        wire,
        needs=("rabbitmq-server", "epmd"),
        files={
            "rabbitmq.conf": CONFIGURATION + configuration,
            "enabled_plugins": f"[{plugin}].\n",
            "start.sh": START,
        },
        environment={
            "ERL_EPMD_PORT": "$other_port",
            "HOME": "$folder",
            "RABBITMQ_NODENAME": "bench$port@localhost",
            "RABBITMQ_DIST_PORT": "$third_port",
            "RABBITMQ_CONFIG_FILE": "$folder/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": "$folder/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": "$folder/mnesia",
            "RABBITMQ_LOG_BASE": "$folder/log",
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_PID_FILE": "$folder/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S {schedulers} {ARGUMENTS}",
        },
        version=("dpkg-query", "-W", "-f=${Version}", "rabbitmq-server"),
        start_seconds=60.0,
        both_cpus=both_cpus,
    )


RABBITMQ = _recipe("rabbitmq", "RabbitMQ, MQTT QoS 0", MQTT, "rabbitmq_mqtt", MQTT_CONFIGURATION, both_cpus=False)
RABBITMQ_STOMP = _recipe(
    "rabbitmq-stomp", "RabbitMQ, STOMP, both CPUs", STOMP, "rabbitmq_stomp", STOMP_CONFIGURATION, both_cpus=True
)
