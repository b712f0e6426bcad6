"""The marks and limits of top-ups and silence in a hub's configuration: derived, and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from .settings import Place, SettingOutOfRange

if TYPE_CHECKING:
    from .config import HubConfig


def with_derived(config: HubConfig) -> HubConfig:
    """Work out the marks of top-ups that were left to the deposit."""
    usual_ucent = min(config.deposit_ucent, config.top_up_member_day_ucent or config.deposit_ucent)
    to_ucent = config.top_up_to_ucent or usual_ucent
    below_ucent = config.top_up_below_ucent or to_ucent // 4
    return replace(config, top_up_to_ucent=to_ucent, top_up_below_ucent=below_ucent)


def check_liquidity(config: HubConfig, places: Mapping[str, Place]) -> None:
    """Refuse marks and limits under which nothing would ever be topped up, or at each payment."""
    below_ucent, to_ucent = config.top_up_below_ucent, config.top_up_to_ucent
    if to_ucent and below_ucent > to_ucent // 2:
        raise SettingOutOfRange(
            places["top_up_below_ucent"],
            f"lanes would be topped up from {below_ucent} µ¢ to {to_ucent} µ¢, again and again",
            remedy=f"write at most half of top_up_to_ucent: {to_ucent // 2}",
        )
    step_ucent, day_ucent = to_ucent - below_ucent, config.top_up_member_day_ucent
    if 0 < day_ucent < step_ucent:
        raise SettingOutOfRange(
            places["top_up_member_day_ucent"],
            f"no top-up fits: the smallest is {step_ucent} µ¢",
            remedy=f"write at least {step_ucent}, or 0 for no top-ups",
        )
    if 0 < config.silent_close_seconds < config.silent_settle_seconds:
        raise SettingOutOfRange(
            places["silent_close_seconds"],
            "channels would be closed before they are settled",
            remedy="write at least silent_settle_seconds, or 0 for never",
        )
