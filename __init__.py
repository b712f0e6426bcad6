"""Farthing: payment channels for fractions of a cent, anchored to a permissioned EVM chain."""

import os as _os

__version__ = "0.1.0"

# eth-hash, below web3 and py-evm, would else take pycryptodome's keccak, which is six times slower.
_os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")
