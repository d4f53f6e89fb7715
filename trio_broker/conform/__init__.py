"""A conformance suite for STOMP brokers, ours or any other. docs/conformance.md says how to use it.

It is a client of its own that writes and reads raw bytes, and knows nothing of how our broker does either.

- `check`: what a check is, its levels and outcomes; `catalogue`: all of them, numbered.
- `connecting`, `framing`, `headers`, `messages`, `subscribing`, `receipts`, `acknowledging`, `transactions`, `ending`,
  `heartbeats`: the checks.
- `target`: the broker under test; `stage`: what one run of a check has; `peer`: one connection.
- `frames`: frames, written well and read strictly.
- `suite`: runs checks.
"""

from trio_broker.conform.catalogue import CHECKS, select
from trio_broker.conform.check import Check, Level, Outcome, Result
from trio_broker.conform.frames import VERSIONS
from trio_broker.conform.suite import Report, run_checks
from trio_broker.conform.target import Target

__all__ = ["CHECKS", "VERSIONS", "Check", "Level", "Outcome", "Report", "Result", "Target", "run_checks", "select"]
