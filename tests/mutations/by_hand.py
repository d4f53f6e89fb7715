"""Variants chosen by hand: what an engineer may do to code that is safe under cancellation, by mistake or to tidy up.

The old text of each must occur exactly once in its file, so that a variant whose place has changed is noticed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.mutations.by_hand_channels import CHANNELS
from tests.mutations.by_hand_client import CLIENT
from tests.mutations.by_hand_core import CORE
from tests.mutations.by_hand_pumps import PUMPS
from tests.mutations.by_hand_server import SERVER
from tests.mutations.by_hand_stomp import STOMP
from tests.mutations.variants import ROOT, ByHand, Variant

__all__ = ["BY_HAND", "chosen"]

BY_HAND: Final[tuple[ByHand, ...]] = (*CORE, *CHANNELS, *SERVER, *PUMPS, *STOMP, *CLIENT)


def chosen(root: Path = ROOT) -> list[Variant]:
    """All variants of this list. Raises ``ValueError`` for one that no longer applies."""
    return [entry.apply((root / entry.path).read_text(encoding="utf-8")) for entry in BY_HAND]
