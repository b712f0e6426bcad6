"""Coverage-guided fuzzing by hand: `python -m tests.fuzz.run TARGET --seconds N`.

It runs on atheris (libFuzzer), which is installed into an environment of its own, .venv-fuzz, at
the first use: no lock and no test needs it. What it finds interesting is kept in .fuzz/ and is
taken up by the next run; what breaks a target is written into the committed corpus at once and the
run ends with code 77. `python -m tests.fuzz.keep TARGET` then adds the smallest set of inputs that
reaches what all of them reach. Without a target it lists them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOUND = ROOT / ".fuzz"
CORPUS = Path(__file__).with_name("corpus")
ENVIRONMENT = ROOT / ".venv-fuzz"
MEMORY_MIB_MAX = 2048
INPUT_SECONDS_MAX = 10
"""An input that takes longer than this is a finding, like an exception."""


def make_environment() -> Path:
    """Install atheris beside the locked environment, whose packages it sees; the interpreter."""
    python = ENVIRONMENT / "bin" / "python"
    done = ENVIRONMENT / ".complete"
    if not done.exists():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        requirements = Path(__file__).with_name("requirements.txt")
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True)
        (library,) = ENVIRONMENT.glob("lib/python*/site-packages")
        seen = f"{sysconfig.get_path('purelib')}\n{ROOT / '.src'}\n"
        (library / "farthing.pth").write_text(seen)
        done.touch()
    return python


def fuzz(target: str, seconds: int) -> None:
    """Fuzz in this process, which atheris ends."""
    import atheris  # type: ignore[import-untyped]  # noqa: PLC0415 - in its own environment

    with atheris.instrument_imports(include=["farthing"]):
        from .targets import TARGETS  # noqa: PLC0415 - instrumented
    from .mutate import mutated  # noqa: PLC0415
    from .seeds import SEEDS  # noqa: PLC0415

    chosen = TARGETS[target]
    found, kept = FOUND / target, CORPUS / target
    for folder in (found, kept):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS[target]():
        (found / name_of(seed)).write_bytes(seed)

    def one(data: bytes) -> None:
        try:
            chosen.one(data)
        except BaseException:
            (kept / name_of(data)).write_bytes(data)
            raise

    def mutate(data: bytes, bytes_max: int, seed: int) -> bytes:
        """Half of the time as JSON, if it is JSON; as bytes otherwise."""
        changed = mutated(data, bytes_max, seed) if seed % 2 else None
        return bytes(atheris.Mutate(data, bytes_max)) if changed is None else changed

    words = Path(__file__).with_name("words.txt")
    options = (
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MIB_MAX}",
        f"-max_len={chosen.bytes_max}",
        f"-artifact_prefix={FOUND}/{target}-",
        f"-dict={words}",
        "-len_control=0",  # what a mutator of JSON makes is long from the start
        "-print_final_stats=1",
    )
    atheris.Setup([sys.argv[0], *options, str(found), str(kept)], one, custom_mutator=mutate)
    atheris.Fuzz()


def name_of(data: bytes) -> str:
    """The name of an input's file."""
    return hashlib.sha256(data).hexdigest()[:12]


def main() -> None:
    """Start again in the environment that has atheris, and fuzz there."""
    parser = argparse.ArgumentParser(description="Coverage-guided fuzzing of one target.")
    parser.add_argument("target", nargs="?")
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    if Path(sys.prefix).resolve() != ENVIRONMENT.resolve():
        python = make_environment()
        os.chdir(ROOT)
        os.execv(  # noqa: S606 - this module again
            python, [str(python), "-m", "tests.fuzz.run", *sys.argv[1:]]
        )
    if arguments.target is None:
        from .targets import TARGETS  # noqa: PLC0415 - uninstrumented, and only to be listed

        print("\n".join(TARGETS))
        return
    fuzz(arguments.target, arguments.seconds)


if __name__ == "__main__":
    main()
