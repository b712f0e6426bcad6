"""Farthing: payment channels for fractions of a cent, anchored to a permissioned EVM chain."""

__version__ = "0.1.0"
