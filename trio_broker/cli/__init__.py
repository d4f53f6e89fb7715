"""The command line: the only room that reads argv, signals and the environment.

- `program`: the group that turns every error into one line; `options`: option types, limits as options.
- `serve`, `listen`, `send`, `demo`: one command each; `children` and `verdict` are the demonstration's.
- `send_lines`, `send_publisher` and `send_stop` are parts of `send`; `speaking`: what it and `listen` share.
- `bench`: how fast a broker is; `bench_broker`, `bench_encoding`, `bench_probe`, `bench_load`, `bench_measure` and
  `bench_report` are its parts.
- `explore`: the explorer's door.
- `conform`: the conformance suite's; `conform_report` shows what came of it.
- `logs`: what becomes of the library's log records; `terminal`: lines, progress, addresses, running Trio.
"""

import click

import trio_broker
from trio_broker.cli.bench import bench_command
from trio_broker.cli.conform import conform_command
from trio_broker.cli.demo import demo_command
from trio_broker.cli.explore import explore_command
from trio_broker.cli.listen import listen_command
from trio_broker.cli.program import PROGRAM, Program
from trio_broker.cli.send import send_command
from trio_broker.cli.serve import serve_command

__all__ = ["main"]


@click.group(
    PROGRAM,
    cls=Program,
    context_settings={
        "auto_envvar_prefix": "TRIO_BROKER",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(trio_broker.__version__, prog_name=PROGRAM)
def main() -> None:
    """A message broker on Trio, its listener and its sender.

    A channel whose name starts with /queue gives each message to one listener, in rotation; every other channel is a
    topic and gives each message to all.

    \b
    Examples, each in a terminal of its own:
      trio-broker serve
      trio-broker listen --listen /queue/blah
      trio-broker listen --listen /queue/blah
      trio-broker send --channel /queue/blah --interval 0.5
    \b
    Or all of it at once:
      trio-broker demo

    Every option can be given in the environment too, under the name that the command's --help shows, for instance
    TRIO_BROKER_SERVE_PORT=25001.
    """


main.add_command(serve_command)
main.add_command(listen_command)
main.add_command(send_command)
main.add_command(demo_command)
main.add_command(bench_command)
main.add_command(explore_command)
main.add_command(conform_command)
