"""docs/devices.md: its programs run as they stand there, against the hub of docs/operators.md."""

import subprocess
import sys
from pathlib import Path

from .pages import page, programs, running_hub
from .walkthrough import Sandbox, blocks

RESIDENT_BYTES_MAX = 80 * 2**20
"""What the page says of a wallet's footprint; measured: 58 MiB, more where coverage is."""

# Of this program's own memory: what getrusage says includes the process that it was forked from.
RUN = """
import runpy
runpy.run_path("offline.py")
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def test_the_page_works_as_written_and_its_footprint_is_true(tmp_path: Path) -> None:
    markdown = page("devices.md")
    files = programs(markdown)
    assert set(files) == {"meter.py", "meter_async.py", "offline.py", "flush.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with Sandbox(tmp_path, path=[Path(sys.executable).parent]) as sandbox:
        sandbox.walk(running_hub() + blocks(markdown))
        ran = subprocess.run(
            [sys.executable, "-c", RUN], cwd=tmp_path, capture_output=True, text=True, check=True
        )
    assert int(ran.stdout.split()[-1]) * 2**10 < RESIDENT_BYTES_MAX


def test_the_example_is_ten_lines() -> None:
    first, *lines = programs(page("devices.md"))["meter.py"].splitlines()
    assert first == "# meter.py"
    assert len([line for line in lines if line]) == 10
