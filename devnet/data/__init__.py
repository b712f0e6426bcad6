"""Readings and the programme that the demo runs on; see README.md for where they come from."""
