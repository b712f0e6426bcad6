"""Why an audit can come to no conclusion (exit 2); none of these says that money is missing."""

from __future__ import annotations

from ...channels.errors import ChainError, LocalError


class RpcUnreachable(ChainError):
    """No answer from the RPC endpoint, or one that is not JSON-RPC."""

    code = "rpc-unreachable"
    remedy = "check --rpc and that the node runs, then audit again"
    retryable = True


class RpcRefused(ChainError):
    """The RPC endpoint answered a call with an error."""

    code = "rpc-refused"
    remedy = "use an archive node that serves eth_getLogs and eth_call at old blocks"

    def __init__(self, method: str, reason: str) -> None:
        super().__init__(f"the RPC endpoint refused {method} ({reason})")
        self.method = method
        self.reason = reason


class RpcAnswerTooLarge(ChainError):
    """The answer is longer than is taken; of logs, a smaller range of blocks is asked for then."""

    code = "rpc-answer-too-large"
    remedy = "audit from another RPC endpoint: no block of this system holds so much"

    def __init__(self, maximum_bytes: int) -> None:
        super().__init__(f"an answer is longer than {maximum_bytes:,} bytes")
        self.maximum_bytes = maximum_bytes


class WrongChain(ChainError):
    """The endpoint serves another chain than the one the deployment record names."""

    code = "wrong-chain"
    remedy = "give the RPC endpoint of the chain in the deployment record, or its right record"


class WrongContract(ChainError):
    """The code or the immutables at an address are not those of the deployment."""

    code = "wrong-contract"
    remedy = "check the deployment record; audit with the release that made this deployment"


class BlockUnavailable(ChainError):
    """The block to audit at, or one that a receipt names, cannot be read."""

    code = "block-unavailable"
    remedy = "give a --block between the deployment's and the newest one"


class ChainReorganised(ChainError):
    """The audited block was replaced while it was read."""

    code = "chain-reorganised"
    remedy = "audit again, at a block that is final"
    retryable = True


class LogsIncomplete(ChainError):
    """The logs contradict themselves or the state: the endpoint left some out or made some up."""

    code = "logs-incomplete"
    remedy = "audit again from another RPC endpoint, one that keeps all logs"


class UnreadableFile(LocalError):
    """A deployment record or a receipts file that cannot be opened and read."""

    code = "unreadable-file"
    remedy = "check the path and the permissions"
