"""Show that the environment in which the user's program is checked is the one that docs/decisions/0001 speaks of.

With trio-typing's stubs, Trio seems to lack a function that it has; the ignored error says that they are in force. Once
trio-typing changes, the ignore is reported as unused, and the decision can be looked at again. This file is checked
in that environment only.
"""

import trio

safe_channel = trio.as_safe_channel  # type: ignore[attr-defined]
