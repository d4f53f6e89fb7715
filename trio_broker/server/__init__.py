"""Tasks and sockets; the only room where wire meets core.

- `server`: listeners, nurseries, the connection limit, the order in which they end.
- `connection`: one peer: a reader task and a writer task around one wire session. `stall`: its stall rule.
- `transport`: plain TCP the fast way, any Trio stream the general way.
"""

from trio_broker.server.server import DrainReport, Server, serve

__all__ = ["DrainReport", "Server", "serve"]
