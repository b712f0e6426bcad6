"""Fixtures of the attacks: the cities of the contract tests, one of them with a hostile token."""

from ..contract.conftest import built_city, built_hostile_city, city, hostile_city

__all__ = ["built_city", "built_hostile_city", "city", "hostile_city"]
