"""The command line at a real terminal: narrow ones, Ctrl-C in long work, completion in three shells."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from ipfs_kit import Kit

WAIT_S = 60.0
KIT = [sys.executable, "-m", "ipfs_kit"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Kit.open(tmp_path / "store", surface="cli") as kit:
        for name in ("docs", "data.set"):
            kit.bucket.create(name)
        kit.files.write("docs:/a-rather-long-file-name-of-a-report.txt", text="text")
        kit.versions.commit("docs", message="first")
        kit.versions.branch_create("docs", "side/one")
        kit.versions.tag_create("docs", "v1")
    return tmp_path / "store"


def _at_the_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background has it ignored


def at_terminal(columns: int, store: Path, *words: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a command whose output is a terminal of so many columns; the process and our end of the terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    child = subprocess.Popen(
        [*KIT, "--store", str(store), *words],
        stdin=slave, stdout=slave, stderr=slave, env={**environment, "TERM": "xterm"}, start_new_session=True,
        preexec_fn=_at_the_terminal,
    )  # fmt: skip
    os.close(slave)
    return child, master


def read_all(master: int, until: bytes = b"") -> bytes:
    said = b""
    while not until or until not in said:
        try:
            said += os.read(master, 4096)
        except OSError:  # the terminal closes when its last writer ends
            break
    return said


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [("ledger", "tail"), ("ls", "docs:/"), ("bucket", "ls"), ("help",), ("help", "put"), ("doctor",), ("log", "docs")],
)
def test_forty_columns_show_everything_and_only_single_words_are_longer(store: Path, words: tuple[str, ...]) -> None:
    child, master = at_terminal(40, store, *words)
    shown = read_all(master).decode().replace("\r\n", "\n")
    os.close(master)
    assert child.wait(WAIT_S) == 0, shown
    for line in shown.split("\n"):
        assert len(line) <= 40 or len(line) - len(line.split()[-1]) < 40, shown  # a CID stays whole: it is copied
    together = "".join(shown.split())
    for needed in {"ls": ("a-rather-long-file-name-of-a-report.txt",), "ledger": ("versions.commit", "docs")}.get(
        words[0], ()
    ):
        assert needed in together


@pytest.mark.slow
def test_ctrl_c_in_a_long_put_says_how_to_go_on_and_leaves_the_session_as_it_was(store: Path, tmp_path: Path) -> None:
    big = tmp_path / "big.bin"
    with big.open("wb") as out:
        out.truncate(64 << 30)
    child, master = at_terminal(80, store, "put", str(big), "docs:/big.bin")
    try:
        assert b"/s" in read_all(master, until=b"/s")  # the rate of the progress line: it is under way
        os.write(master, b"\x03")
        said = read_all(master).decode()
        os.close(master)
        assert child.wait(WAIT_S) == 130, said
    finally:
        child.kill()
        child.wait(WAIT_S)
    assert "stopping" in said
    assert "run the same command again" in said
    assert "Traceback" not in said
    done = subprocess.run([*KIT, "--store", str(store), "verify"], capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stdout
    with Kit.open(store) as kit:
        [op] = [op for op in kit.ledger.tail(limit=50).ops if op.operation == "files.put"]
        assert (op.status, op.surface) == ("cancelled", "cli")
        assert [entry.name for entry in kit.files.list("docs:/").entries] == ["a-rather-long-file-name-of-a-report.txt"]
        big.unlink()
        big.write_bytes(b"small")
        kit.files.put(str(big), "docs:/big.bin")
        assert kit.files.read("docs:/big.bin").read() == b"small"


def environment(store: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "IPFS_KIT_STORE": str(store),
    }


def script(shell: str) -> str:
    return subprocess.run([*KIT, "completion", shell], capture_output=True, text=True, check=True).stdout


LINES = {
    "ipfs-kit comm": {"commit"},
    "ipfs-kit log d": {"docs", "docs:/", "data.set", "data.set:/"},
    "ipfs-kit log docs@": {"docs@main", "docs@side/one", "docs@v1"},
    "ipfs-kit ledger tai": {"tail"},
}


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_bash_and_zsh_complete_commands_buckets_and_refs(store: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    if shell == "zsh":
        begin = f"autoload -U +X compinit && compinit -u -D\n{script(shell)}\nsetopt ksharrays shwordsplit\n"
    else:
        begin = script(shell)
    for line, wanted in LINES.items():
        words = line.split(" ")
        program = (
            f"{begin}\nCOMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; "
            f"COMP_POINT={len(line)}; _ipfs_kit; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        done = subprocess.run(
            [shell, "-fc" if shell == "zsh" else "-c", program], capture_output=True, text=True, env=environment(store),
            cwd=store.parent, timeout=WAIT_S,
        )  # fmt: skip
        assert wanted <= set(done.stdout.split()), (line, done.stdout, done.stderr)
        # Outside of its line editor, zsh does not filter what a function offers.
        assert shell == "zsh" or wanted == set(done.stdout.split())


@pytest.mark.slow
def test_bash_offers_only_what_is_missing_where_it_parts_words(store: Path) -> None:
    program = (
        f"{script('bash')}\nCOMP_WORDS=(ipfs-kit log docs @ s); COMP_CWORD=4; COMP_LINE='ipfs-kit log docs@s'; "
        "COMP_POINT=19; _ipfs_kit; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, env=environment(store), cwd=store / "packs", check=True
    )
    assert "side/one" in done.stdout.split()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_commands_buckets_refs_and_options(store: Path, tmp_path: Path) -> None:
    (tmp_path / "kit.fish").write_text(script("fish"))
    for line, wanted in {**LINES, "ipfs-kit put --keep": {"--keep-mode"}}.items():
        done = subprocess.run(
            ["fish", "-c", f"source {tmp_path / 'kit.fish'}; complete -C '{line}'"],
            capture_output=True, text=True, env=environment(store), check=True, timeout=WAIT_S,
        )  # fmt: skip
        assert wanted <= set(done.stdout.split()), (line, done.stdout)


def test_names_are_completed_without_what_opens_a_store(store: Path) -> None:
    code = (
        "import sys; from ipfs_kit.surfaces.cli.main import main; main(sys.argv[1:]); "
        "slow = {'cryptography', 'lmdb', 'apsw', 'mcp', 'ipfs_kit.buckets', 'ipfs_kit.operations.kit'} & set(sys.modules); "
        "assert not slow, slow"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "completion", "words", f"ipfs-kit --store {store} log d"],
        capture_output=True, text=True, timeout=WAIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["data.set", "data.set:/", "docs", "docs:/"]


@pytest.mark.parametrize("line", ["", "ipfs-kit log 'unclosed", "ipfs-kit --store /nowhere/at/all log x", "x" * 5000])
def test_completing_nonsense_says_nothing(tmp_path: Path, line: str) -> None:
    done = subprocess.run(
        [*KIT, "completion", "words", line],
        capture_output=True,
        text=True,
        env=environment(tmp_path / "none"),
        timeout=WAIT_S,
    )
    assert (done.stdout, done.stderr) == ("", "")
