"""Tasks and sockets; the only room where wire meets core.

- `server`: listeners, nurseries, the connection limit, the order in which they end.
- `connection`: one peer, and how its conversation ends. `reader`: what it says. `speaker`: what it is told.
- `deadline`, `stall`: how long it may take to finish a frame, and to take what it is sent.
- `transport`: plain TCP the fast way, any Trio stream the general way.
"""

from trio_broker.server.server import DrainReport, Server, serve

__all__ = ["DrainReport", "Server", "serve"]
