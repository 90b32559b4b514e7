"""A command continues when nobody reads its output, when a stream is closed, and in any locale."""

import os
import subprocess
import sys

import pytest

from tests.support.processes import HANG, wait_until

PRINTS = """
import os, sys
from tqdm import tqdm
from hicmae_jax.supervision import standard_streams
standard_streams.make_tolerant()
print("begun", flush=True)
sys.stdin.read(1)  # until nobody reads
for _ in tqdm(range(10_000), mininterval=0):
    print("x" * 100, flush=True)
tqdm.write("y", file=sys.stderr)
os.write(1, b"a library prints too")
open(sys.argv[1], "w").write(str(sys.stdout.encoding))
os._exit(7)
"""
OPENS = """
import os, sys
from absl import logging
from hicmae_jax.supervision import standard_streams
standard_streams.make_tolerant()
with open(sys.argv[1], "wb") as file:
    file.write(b"data")
    file.flush()
    print("printed", flush=True)
    logging.warning("logged")
    for descriptor in (1, 2):
        os.write(descriptor, b"by a library in C")
sys.exit(standard_streams.end("own", 0))
"""
# Its characters are escaped, for not every locale could pass them to the process.
ENDS = r"""
import sys
from hicmae_jax.supervision import standard_streams
standard_streams.make_tolerant()
print("5 \xd7 5 \u2192 25", "\udcff")
print("5 \xd7 5", file=sys.stderr)
sys.exit(standard_streams.end("own", int(sys.argv[1])))
"""


def test_a_process_continues_after_the_readers_of_its_output_have_ended(tmp_path):
    command = [sys.executable, "-c", PRINTS, str(tmp_path / "end")]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdout.readline() == b"begun\n"
    process.stdout.close()
    process.stderr.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    wait_until(lambda: process.poll() is not None)
    assert process.returncode == 7
    assert (tmp_path / "end").read_text().lower() == "utf-8"


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2), (0, 1, 2)])
def test_no_file_gets_the_descriptor_of_a_closed_stream(tmp_path, closed):
    close = " ".join(f"{number}>&-" for number in closed)
    shell = f'exec "$0" -c "$1" "$2" {close}'
    command = ["sh", "-c", shell, sys.executable, OPENS, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0
    assert (tmp_path / "file").read_bytes() == b"data"
    assert done.stdout == ("" if 1 in closed else "printed\nby a library in C")
    assert "Traceback" not in done.stderr
    assert ("logged" in done.stderr) == (2 not in closed)


def run_ends(code=0, **streams):
    command = [sys.executable, "-c", ENDS, str(code)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, timeout=HANG, **streams)


@pytest.mark.parametrize(("code", "ended"), [(0, 1), (2, 2)])
def test_output_that_is_lost_on_a_full_disk_is_reported(code, ended):
    with open("/dev/full", "wb") as full:
        done = run_ends(code, stdout=full, stderr=subprocess.PIPE)
    assert done.stderr.decode().splitlines() == [
        "5 × 5",
        "own: stdout was not written: No space left on device",
    ]
    assert done.returncode == ended


def test_output_that_nobody_reads_is_no_error():
    reads, writes = os.pipe()
    os.close(reads)
    done = run_ends(stdout=writes, stderr=writes)
    os.close(writes)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("environment", "out", "err"),
    [
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            rb"5 \xd7 5 \u2192 25 \udcff",
            rb"5 \xd7 5",
        ),
        ({"PYTHONIOENCODING": "latin-1"}, b"5 \xd7 5 \\u2192 25 \\udcff", b"5 \xd7 5"),
        ({"PYTHONIOENCODING": "ascii"}, rb"5 \xd7 5 \u2192 25 \udcff", rb"5 \xd7 5"),
        ({"PYTHONIOENCODING": "utf-8"}, "5 × 5 → 25 ".encode() + rb"\udcff", "5 × 5".encode()),
    ],
)
def test_characters_that_an_encoding_lacks_are_escaped(environment, out, err):
    done = run_ends(capture_output=True, env={**os.environ, **environment})
    assert (done.returncode, done.stdout, done.stderr) == (0, out + b"\n", err + b"\n")
