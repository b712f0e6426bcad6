# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Member registry
@license Apache-2.0
@notice Says who takes part: a role, a status and an end of validity for each address.
@dev Holds no personal data, no free text and no link between an owner and a device in clear: what
     links them is a salted commitment, opened off-chain to whoever may know. Addresses are never
     deleted, so that an auditor can tell what anybody was at any block.
"""

# constants

# Roles. Their numbers are part of the interface: they stand in events for ever.
REGISTRAR: public(constant(uint8)) = 1
TREASURY: public(constant(uint8)) = 2
HUB: public(constant(uint8)) = 3
RESIDENT: public(constant(uint8)) = 4
DEVICE: public(constant(uint8)) = 5
RELAYER: public(constant(uint8)) = 6
AUDITOR: public(constant(uint8)) = 7

# Statuses. 0 is an address that was never registered.
ACTIVE: public(constant(uint8)) = 1
SUSPENDED: public(constant(uint8)) = 2
REMOVED: public(constant(uint8)) = 3

# One call fits a block of any size in use and still enrols a street of devices.
ROWS_MAX: public(constant(uint256)) = 256

# A member's word, from its low end: role 8, status 8, end of validity 64 bits. One word, so that
# asking whether an address is active costs one storage read.
_BYTE: constant(uint256) = 2**8 - 1
_STATUS_SHIFT: constant(uint256) = 8
_VALIDITY_SHIFT: constant(uint256) = 16


# structs

struct MemberRow:
    account: address
    role: uint8
    status: uint8
    valid_until: uint64
    commitment: bytes32
    reason: bytes32


# state

_words: HashMap[address, uint256]
_commitments: HashMap[address, bytes32]


# events

event MemberChanged:
    account: indexed(address)
    actor: indexed(address)
    role: uint8
    status: uint8
    valid_until: uint64
    commitment: bytes32
    reason: bytes32


@deploy
def __init__(registrar: address):
    """
    @notice Creates a registry with one member, its first registrar, without an end of validity.
    @param registrar the first registrar
    """
    self._set(
        MemberRow(
            account=registrar,
            role=REGISTRAR,
            status=ACTIVE,
            valid_until=0,
            commitment=empty(bytes32),
            reason=empty(bytes32),
        )
    )


# external

@external
def set_member(row: MemberRow):
    """
    @notice Registers an address or changes what it is. Only an active registrar.
    @param row the address, its role (1 to 7), status (1 active, 2 suspended, 3 removed), last second
           of validity in chain time (0: no end), commitment and reason code
    """
    self._only_registrar()
    self._set(row)
    self._still_registrar()


@external
def set_members(rows: DynArray[MemberRow, ROWS_MAX]):
    """
    @notice Does what `set_member` does for many addresses; one wrong row refuses all of them.
    @param rows up to ROWS_MAX rows
    """
    self._only_registrar()
    for row: MemberRow in rows:
        self._set(row)
    self._still_registrar()


@external
@view
def member(account: address) -> (uint8, uint8, uint64, bytes32):
    """
    @notice What the registry holds about an address; four zeros for an address it never saw.
    @param account the address
    @return role, 1 to 7
    @return status: 1 active, 2 suspended, 3 removed
    @return last second of validity, 0 where there is no end
    @return commitment to what links the address to others, known off-chain alone
    """
    word: uint256 = self._words[account]
    return (
        convert(word & _BYTE, uint8),
        convert((word >> _STATUS_SHIFT) & _BYTE, uint8),
        convert(word >> _VALIDITY_SHIFT, uint64),
        self._commitments[account],
    )


@external
@view
def is_active(account: address) -> bool:
    """
    @notice Whether an address is an active member in this block.
    @param account the address
    @return true if its status is active and its validity has not ended
    """
    return self._is_active(self._words[account])


@external
@view
def has_role(account: address, role: uint8) -> bool:
    """
    @notice Whether an address is an active member of one role in this block.
    @param account the address
    @param role the role, 1 to 7
    @return true if it is active and of that role
    """
    return self._has_role(account, role)


# internal

@internal
@view
def _is_active(word: uint256) -> bool:
    if (word >> _STATUS_SHIFT) & _BYTE != convert(ACTIVE, uint256):
        return False
    valid_until: uint256 = word >> _VALIDITY_SHIFT
    return valid_until == 0 or block.timestamp <= valid_until


@internal
@view
def _has_role(account: address, role: uint8) -> bool:
    word: uint256 = self._words[account]
    return word & _BYTE == convert(role, uint256) and self._is_active(word)


@internal
@view
def _only_registrar():
    assert self._has_role(msg.sender, REGISTRAR), "registry: not a registrar"


@internal
@view
def _still_registrar():
    # Whoever changes the registry can change it again afterwards: a registry that nobody can
    # change would never admit or suspend anybody again. A registrar leaves by naming a successor,
    # who then removes it.
    assert self._has_role(msg.sender, REGISTRAR), "registry: registrar locks itself out"


@internal
def _set(row: MemberRow):
    assert row.account != empty(address), "registry: empty address"
    assert row.role >= REGISTRAR and row.role <= AUDITOR, "registry: unknown role"
    assert row.status >= ACTIVE and row.status <= REMOVED, "registry: unknown status"
    self._words[row.account] = (
        convert(row.role, uint256)
        | (convert(row.status, uint256) << _STATUS_SHIFT)
        | (convert(row.valid_until, uint256) << _VALIDITY_SHIFT)
    )
    self._commitments[row.account] = row.commitment
    log MemberChanged(
        account=row.account,
        actor=msg.sender,
        role=row.role,
        status=row.status,
        valid_until=row.valid_until,
        commitment=row.commitment,
        reason=row.reason,
    )
