"""The development accounts: the same addresses and keys as anvil's and hardhat's.

Everybody knows these keys. Use them on a devnet only.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_account import Account
from eth_account.hdaccount import key_from_seed, seed_from_mnemonic
from eth_account.signers.local import LocalAccount

from ..channels.ids import Address, address_from_hex, address_to_hex
from ..channels.signing import Signer
from .errors import BadSetting

MNEMONIC = "test test test test test test test test test test test junk"
DERIVATION_PATH = "m/44'/60'/0'/0/{index}"
ACCOUNTS_DEFAULT = 10
ACCOUNTS_MAX = 1_000
"""Each costs an elliptic-curve multiplication at start: a thousand stay under a second."""
BALANCE_WEI = 10_000 * 10**18
"""What each owns at genesis. Gas is free; the balance is for values and for priced tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevAccount:
    """An address and its well-known private key (32 bytes)."""

    index: int
    address: Address
    private_key: bytes

    @property
    def checksum_address(self) -> str:
        """The address as text, EIP-55."""
        return address_to_hex(self.address)

    def signer(self) -> LocalAccount:
        """The account as eth-account's signing object."""
        account: LocalAccount = Account.from_key(self.private_key)
        return account


def dev_accounts(count: int = ACCOUNTS_DEFAULT) -> tuple[DevAccount, ...]:
    """Derive the first `count` accounts (BIP-32, BIP-39, BIP-44); raises `BadSetting`."""
    if not 1 <= count <= ACCOUNTS_MAX:
        raise BadSetting("accounts", count, f"1 to {ACCOUNTS_MAX}")
    seed = seed_from_mnemonic(MNEMONIC, "")
    accounts = []
    for index in range(count):
        key = key_from_seed(seed, DERIVATION_PATH.format(index=index))
        address = address_from_hex(Account.from_key(key).address)
        accounts.append(DevAccount(index=index, address=address, private_key=bytes(key)))
    return tuple(accounts)


def development_signer(index: int) -> Signer:
    """Return one of the accounts as a signer of our own; raises `BadSetting`."""
    return Signer(dev_accounts(index + 1)[index].private_key)
