"""`farthing settle`: everything unsettled onto the chain, now."""

from __future__ import annotations

from pathlib import Path

import click

from .hub import config_option, read_config
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
    from ..channels.client.control import call_control  # noqa: PLC0415 - trio, not for --help

    emit(call_control(read_config(config).data_dir / "control.sock", "settle", {}), as_json=as_json)
