"""Cancel a Trio program at every checkpoint.

`explore` runs a scenario again and again, each time disturbed at another moment; `replay` runs one of those runs alone.
This room knows Trio and nothing else of ours, so any Trio program can use it.

- `exploration`: all runs of a scenario. `run`: one of them; `result`: what comes of it.
- `plan`: what a run does differently, as a value and as a token. `sites`: await sites, for coverage.
- `network`, `streams`, `faults`: a network in memory that fails where a plan says.
- `internals`: the private parts of Trio that this stands on.
"""

from trio_broker.explorer.exploration import Exploration, Failure, explore, replay
from trio_broker.explorer.result import NotExplorable, ScenarioFailed, afterwards

__all__ = ["Exploration", "Failure", "NotExplorable", "ScenarioFailed", "afterwards", "explore", "replay"]
