"""`farthing settle`: everything unsettled onto the chain, now."""

from __future__ import annotations

from pathlib import Path

import click

from .hub import ask, config_option
from .output import emit, json_option, reports_errors


@click.command()
@config_option
@json_option
@reports_errors
def settle(*, config: Path, as_json: bool) -> None:
    r"""Tell a running hub to settle every lane that has anything unsettled.

    \b
    Example:
      farthing settle --config hub/hub.toml
    """
    emit(ask(config, "settle", {}), as_json=as_json)
