"""The wallet's own tables beside the ledger's, in one place for whoever opens the database."""

from __future__ import annotations

from typing import Final

from .payments import SCHEMA as REQUESTS
from .submissions import SCHEMA as SUBMISSIONS

SCHEMA: Final = SUBMISSIONS + REQUESTS
