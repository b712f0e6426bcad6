"""How a keystore of version 3 seals a key: scrypt or PBKDF2, AES-128-CTR and a keccak-256 code.

Rule: `keystore` has checked every field of what is opened here, and bounded its cost.
Source: Web3 Secret Storage, version 3
(https://ethereum.org/en/developers/docs/data-structures-and-encoding/web3-secret-storage/).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from typing import Any, Final

from Crypto.Cipher import AES

from ..hashing import keccak256

_KEY_BYTES: Final = 32
"""Of what the password becomes: one half encrypts, the other authenticates."""
_HALF: Final = 16
_SALT_BYTES: Final = 16
_SCRYPT_R: Final = 8
_SCRYPT_P: Final = 1


class WrongCode(Exception):
    """The authentication code is not the one of this password and ciphertext."""


def seal(secret: bytes, password: bytes, *, scrypt_n: int) -> dict[str, Any]:
    """Return a keystore's record, without an address, of a secret under a password."""
    salt = secrets.token_bytes(_SALT_BYTES)
    iv = secrets.token_bytes(AES.block_size)
    parameters = {
        "dklen": _KEY_BYTES,
        "n": scrypt_n,
        "r": _SCRYPT_R,
        "p": _SCRYPT_P,
        "salt": salt.hex(),
    }
    derived = _derive("scrypt", parameters, password)
    ciphertext = _stream(derived, iv).encrypt(secret)
    return {
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": parameters,
            "mac": _code(derived, ciphertext).hex(),
        },
        "id": str(uuid.uuid4()),
        "version": 3,
    }


def unseal(crypto: dict[str, Any], password: bytes) -> bytes:
    """Return the secret of a checked `crypto` record.

    Raises `WrongCode`, and `ValueError` where the library refuses parameters.
    """
    derived = _derive(crypto["kdf"], crypto["kdfparams"], password)
    ciphertext = bytes.fromhex(crypto["ciphertext"])
    if not hmac.compare_digest(_code(derived, ciphertext), bytes.fromhex(crypto["mac"])):
        raise WrongCode
    secret: bytes = _stream(derived, bytes.fromhex(crypto["cipherparams"]["iv"])).decrypt(
        ciphertext
    )
    return secret


def _derive(kdf: str, parameters: dict[str, Any], password: bytes) -> bytes:
    salt = bytes.fromhex(parameters["salt"])
    if kdf == "pbkdf2":
        return hashlib.pbkdf2_hmac("sha256", password, salt, parameters["c"], _KEY_BYTES)
    n, r, p = (parameters[name] for name in ("n", "r", "p"))
    # OpenSSL counts its scratch a little differently; what is allowed was decided before.
    memory = 128 * r * (n + p + 2) + (1 << 20)
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=_KEY_BYTES)


def _stream(derived: bytes, iv: bytes) -> Any:
    """AES in counter mode; the counter is the whole block and starts at the iv."""
    return AES.new(derived[:_HALF], AES.MODE_CTR, nonce=b"", initial_value=iv)


def _code(derived: bytes, ciphertext: bytes) -> bytes:
    return keccak256(derived[_HALF:] + ciphertext)
