"""A run continues when nobody reads its output any more."""

import subprocess
import sys

from tests.support.processes import wait_until

PRINTS = """
import os, sys
from tqdm import tqdm
from hicmae_jax.supervision import broken_pipe
broken_pipe.ignore_broken_pipes()
print("begun", flush=True)
sys.stdin.read(1)  # until nobody reads
for _ in tqdm(range(10_000), mininterval=0):
    print("x" * 100, flush=True)
tqdm.write("y", file=sys.stderr)
open(sys.argv[1], "w").write(str(sys.stdout.encoding))
os._exit(7)
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
