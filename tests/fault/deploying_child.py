"""Deploys again and again, each time killed one step later, and then once more to the end.

    python deploying_child.py RPC_URL FOLDER

A step is whatever leaves the process: a file that is opened, renamed or removed, a transaction
that is sent, and the first question to the chain after one of these. Every life is a process of its
own that kills itself with SIGKILL just before its step. Prints one line of JSON for each
deployment, until one was not killed: that was after the last step.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from farthing.channels.signing import Signer
from farthing.devnet.accounts import dev_accounts
from farthing.node.deploying import AlreadyDeployed, deploy
from farthing.node.sender import connect

ACCOUNTS = 200
FILES = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"})
REQUEST = "http.client.send"
DONE, FAILED, ALREADY = 0, 3, 4
ENDS = {DONE: "done", FAILED: "failed", ALREADY: "already-deployed"}


def kill_before(step: int, folder: Path) -> None:
    """Kill this process just before that step, counted from 1."""
    seen, changed = 0, True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen, changed
        if event == REQUEST:
            body = bytes(arguments[1])
            sends = b"eth_sendRawTransaction" in body
            if not body.startswith(b"{") or not (sends or changed):
                return
            changed = sends
        elif event in FILES and str(folder) in str(arguments[0]):
            changed = True
        else:
            return
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def life(rpc_url: str, folder: Path, signer: Signer, step: int) -> int:
    """One process's; its wait status."""
    child = os.fork()
    if child == 0:
        code = FAILED
        try:
            if step:
                kill_before(step, folder)
            deploy(connect(rpc_url), signer, folder / "deployment.json")
            code = DONE
        except AlreadyDeployed:
            code = ALREADY
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def main(rpc_url: str, root: Path) -> None:
    for step, account in enumerate(dev_accounts(ACCOUNTS), start=1):
        folder = root / str(step)
        folder.mkdir()
        signer = Signer(account.private_key)
        status = life(rpc_url, folder, signer, step)
        was_there = (folder / "deployment.json").exists()
        killed = os.WIFSIGNALED(status)
        second = life(rpc_url, folder, signer, 0) if killed else status
        line = {
            "step": step,
            "killed": killed,
            "end": ENDS[os.waitstatus_to_exitcode(second)],
            "record_at_kill": was_there,
            "files": sorted(path.name for path in folder.iterdir()),
            "deployer": account.checksum_address,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        if not killed:
            return


main(sys.argv[1], Path(sys.argv[2]))
