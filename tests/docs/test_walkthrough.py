"""The harness that runs the documents: it must fail where a document is wrong."""

from pathlib import Path

import pytest

from .walkthrough import Block, Command, Sandbox, WalkError, blocks, free_ports, matches, shape

SAMPLE = """\
# Sample

```console
$ echo before
```

## First steps

Text, and a block that is no console:

```python
$ not a command
```

```console
# terminal 1
$ echo ready on 8545; sleep 1000
ready on 9999
```

### Then

```console
$ printf 'one\\ntwo\\n' \\
> | sort
one
...
$ true
```

## Later

```console
$ false
```
"""


def walk(folder: Path, text: str) -> None:
    with Sandbox(folder) as sandbox:
        sandbox.walk(blocks(f"```console\n{text}\n```\n"))


def test_a_section_ends_at_the_next_heading_of_its_level() -> None:
    steps = blocks(SAMPLE, section="First steps")
    assert steps == [
        Block(
            terminal="1",
            commands=(
                Command(
                    text="echo ready on 8545; sleep 1000", expected=("ready on 9999",), line=17
                ),
            ),
        ),
        Block(
            terminal="any",
            commands=(
                Command(text="printf 'one\\ntwo\\n' \\\n| sort", expected=("one", "..."), line=24),
                Command(text="true", expected=(), line=28),
            ),
        ),
    ]
    assert len(blocks(SAMPLE)) == 4


def test_output_before_the_first_command_is_a_mistake_of_the_document() -> None:
    with pytest.raises(WalkError, match="line 2: output before"):
        blocks("```console\noops\n```\n")


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("paid 1,234 µ¢ in 0.5 s", "paid 7 µ¢ in 12.25 s"),
        ("channel 0x12ab…cd open", "channel 0x00ffEE open"),
        ("channel 0x… open", "channel 0x00ffEE open"),
        ('{"rpc": "http://127.0.0.1:8545"}', '{"rpc": "http://127.0.0.1:49152"}'),
        ("alice   10  open", "alice 1000 open"),
        ("--------", "-----"),
        ("at 2026-01-02T03:04:05Z", "at 2027-11-22T13:14:15Z"),
        ("3f2a9c0d11e4b7", "0123456789ab"),
        ("plain", "\x1b[32mplain\x1b[0m"),
    ],
)
def test_numbers_hex_and_spacing_may_differ(shown: str, printed: str) -> None:
    assert shape(shown) == shape(printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [("paid 1 µ¢", "refused 1 µ¢"), ("0xab", "12"), ("balance 1", "balance -1"), ("a b", "ab")],
)
def test_words_signs_and_kinds_may_not_differ(shown: str, printed: str) -> None:
    assert shape(shown) != shape(printed)


def test_the_sandbox_is_shown_as_home() -> None:
    assert shape("wrote /srv/x/deployment.json", folder="/srv/x") == "wrote ~/deployment.json"


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ([], [], True),
        ([], ["a"], False),
        (["..."], [], True),
        (["..."], ["a", "b"], True),
        (["a", "...", "d"], ["a", "b", "c", "d"], True),
        (["a", "...", "d"], ["a", "b"], False),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["a"], False),
    ],
)
def test_three_dots_stand_for_any_lines(
    expected: list[str], printed: list[str], same: bool
) -> None:
    assert matches(expected, printed) is same


def test_a_port_gets_a_free_one_and_keeps_it() -> None:
    ports = free_ports(["up --port 8545", "run http://127.0.0.1:8545 --port=9000", "any --port 0"])
    assert set(ports) == {"8545", "9000"}
    assert len(set(ports.values())) == 2


def test_a_document_that_is_right_passes_daemons_and_all(tmp_path: Path) -> None:
    with Sandbox(tmp_path) as sandbox:
        sandbox.walk(blocks(SAMPLE, section="First steps"))


def test_a_terminal_remembers_its_folder_and_variables(tmp_path: Path) -> None:
    walk(tmp_path, "$ mkdir sub && cd sub && name=alice\n$ echo $name; pwd\nalice\n~/sub")


def test_home_is_the_sandbox(tmp_path: Path) -> None:
    walk(tmp_path, "$ echo ~; ls -a ~ | wc -l\n~\n2")


def test_a_daemon_is_stopped_by_control_c_and_the_terminal_goes_on(tmp_path: Path) -> None:
    # One process prints and stays, as a daemon does: what ^C meets is certainly running.
    daemon = "sh -c 'echo up; exec sleep 1000'"
    walk(tmp_path, f"# terminal 1\n$ {daemon}\nup\n^C\n$ echo down\ndown")


def test_a_later_block_stops_what_still_runs_in_its_terminal(tmp_path: Path) -> None:
    # One process prints and stays: what ^C meets is certainly running.
    steps = blocks(
        "```console\n# terminal 1\n$ sh -c 'echo up; exec sleep 1000'\nup\n```\n"
        "```console\n# terminal 1\n^C\n$ echo down\ndown\n```\n"
    )
    assert [block.interrupts for block in steps] == [False, True]
    with Sandbox(tmp_path) as sandbox:
        sandbox.walk(steps)


def test_a_command_in_a_terminal_waits_for_the_one_before(tmp_path: Path) -> None:
    steps = blocks(
        "```console\n# terminal 1\n$ echo up; until [ -e go ]; do :; done; touch gone\nup\n```\n"
        "```console\n$ touch go\n```\n"
        "```console\n# terminal 1\n$ ls gone\ngone\n```\n"
    )
    with Sandbox(tmp_path) as sandbox:
        sandbox.walk(steps)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("$ echo alice\nbob", "printed something else"),
        ("$ echo alice", "printed something else"),
        ("$ true\nalice", "printed something else"),
        ("$ echo alice; (exit 3)\nalice", "exit code 3"),
        ("$ no-such-command-here\n...", "exit code 127"),
        ("$ exit 0", "ended its shell"),
        ("# terminal 2\n$ echo starting; (exit 1)\nready", "exit code 1"),
    ],
)
def test_a_document_that_is_wrong_fails_and_shows_both(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(WalkError, match=complaint) as caught:
        walk(tmp_path, text)
    assert "the document says:" in str(caught.value)


def test_a_daemon_that_does_not_end_when_asked_to_is_killed_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.docs.walkthrough.STOP_SECONDS", 0.2)
    with pytest.raises(WalkError, match="did not end when asked to"):
        walk(tmp_path, "# terminal 1\n$ trap '' TERM; echo up; cat /dev/zero > /dev/null\nup")
