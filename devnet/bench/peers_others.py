"""Others' code for the same work, in the environment that `farthing bench peers` makes for it.

usage: python peers_others.py with|without

It imports nothing of Farthing, which that environment does not hold. `without` hides coincurve, as
it is where nobody asked for it: neither library requires it. Its first line is JSON with the
versions; for each line `NAME COUNT` it does that work so often and says the µs of CPU a time took.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

SECRET = bytes.fromhex("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d")
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
CHANNEL = bytes(range(32))
PAYER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
NETWORK = "eip155:20262026"
CHAIN_ID = 20_262_026
_MICRO = 1e6

DOMAIN = {
    "name": "Farthing",
    "version": "1",
    "chainId": CHAIN_ID,
    "verifyingContract": CONTRACT,
}
TYPES = {
    "Voucher": [
        {"name": "channel", "type": "bytes32"},
        {"name": "payer", "type": "address"},
        {"name": "nonce", "type": "uint64"},
        {"name": "transferred", "type": "uint96"},
        {"name": "history", "type": "bytes32"},
        {"name": "conditions", "type": "bytes32"},
    ]
}


def eth_account_work() -> Callable[[int], None]:
    """Sign and check our voucher with eth-account's generic EIP-712."""
    accounts = importlib.import_module("eth_account")
    encode = importlib.import_module("eth_account.messages").encode_typed_data
    account = accounts.Account.from_key(SECRET)

    def work(number: int) -> None:
        message = {
            "channel": CHANNEL,
            "payer": PAYER,
            "nonce": number + 1,
            "transferred": 125 * (number + 1),
            "history": CHANNEL,
            "conditions": bytes(32),
        }
        signed = account.sign_message(encode(DOMAIN, TYPES, message))
        again = encode(DOMAIN, TYPES, message)
        if accounts.Account.recover_message(again, signature=signed.signature) != account.address:
            raise RuntimeError("eth-account does not recover its own signature")

    return work


def x402_work() -> Callable[[int], None]:
    """Sign and check a voucher of x402's batch-settlement scheme, as its client and server do."""
    accounts = importlib.import_module("eth_account")
    of_evm = "x402.mechanisms.evm"
    signers = importlib.import_module(f"{of_evm}.signers")
    client = importlib.import_module(f"{of_evm}.batch_settlement.client.voucher")
    server = importlib.import_module(f"{of_evm}.batch_settlement.facilitator.utils")
    account = accounts.Account.from_key(SECRET)
    signer = signers.EthAccountSigner(account)
    channel = "0x" + CHANNEL.hex()

    def work(number: int) -> None:
        fields = client.sign_voucher(signer, channel, 125 * (number + 1), NETWORK)
        is_good = server.verify_batch_settlement_voucher_typed_data(
            signer=None,
            channel_id=fields.channel_id,
            max_claimable_amount=fields.max_claimable_amount,
            payer_authorizer=account.address,
            payer=account.address,
            signature=fields.signature,
            chain_id=CHAIN_ID,
        )
        if not is_good:
            raise RuntimeError("x402 does not verify its own voucher")

    return work


def main() -> None:
    """Answer line by line."""
    if sys.argv[1] == "without":
        hidden: dict[str, Any] = {"coincurve": None}
        sys.modules.update(hidden)
    works = {"eth_account": eth_account_work(), "x402": x402_work()}
    for work in works.values():
        work(0)
    backend = importlib.import_module("eth_keys").KeyAPI().backend
    _say(
        {
            "eth-account": version("eth-account"),
            "x402": version("x402"),
            "coincurve": version("coincurve"),
            "backend": type(backend).__name__,
        }
    )
    for line in sys.stdin:
        name, count = line.split()
        began = time.process_time()
        for number in range(int(count)):
            works[name](number)
        _say({"us": (time.process_time() - began) / int(count) * _MICRO})


def _say(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
