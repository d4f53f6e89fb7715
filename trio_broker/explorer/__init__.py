"""Cancel a Trio program at every checkpoint.

`explore` runs a scenario again and again, each time disturbed at another moment; `replay` runs one of those runs alone.
This room knows Trio and nothing else of ours, so any Trio program can use it.

- `search`: all runs of a scenario; `exploration`: what comes of them. `plan`: what a run does differently, as a value
  and as a token.
- `run`: one of them; `result`: what comes of it. `checks`: what the scenario demands. `instrument`: what Trio tells,
  and what the explorer does then; `census`: the tasks; `verdict`: whether a run has failed. `watchdog`, `reality`: what
  of the real world it comes upon.
- `sites`: await sites, for coverage; `excuses`: those that nobody can reach. `places`: lines of a scenario, for people.
  `frames`: what a suspended task waits in, for all three.
- `network`, `listeners`, `streams`, `faults`: a network in memory that fails where a plan says. `sockets`,
  `socket_base`, `addresses`: its sockets, for programs that open their own.
- `internals`: the private parts of Trio that this stands on.
"""

from trio_broker.explorer.checks import afterwards, at_rest, disturbed
from trio_broker.explorer.exploration import Exploration, Failure
from trio_broker.explorer.result import Endless, NotExplorable, Obstacle, ScenarioFailed, Swallowed
from trio_broker.explorer.search import explore, replay

__all__ = [
    "Endless",
    "Exploration",
    "Failure",
    "NotExplorable",
    "Obstacle",
    "ScenarioFailed",
    "Swallowed",
    "afterwards",
    "at_rest",
    "disturbed",
    "explore",
    "replay",
]
