"""The Vyper contracts, their compiled artifacts and the record of a deployment."""
