"""Commands as a user whom this machine does not know: without a name, and without a home directory."""

import os
import subprocess
import sys

from tests.support.paths import ROOT
from tests.support.processes import HANG
from tests.support.xla_flags import xla_flags

UNKNOWN = 54321
"""Number of a user and of a group that no machine has."""
OTHER = 54322
"""Another one."""

_NAMES = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")
# They may read everything, for the interpreter may lie in the home directory of root.
_CAPABILITIES = [f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
SETPRIV = ["setpriv", f"--reuid={UNKNOWN}", f"--regid={UNKNOWN}", "--clear-groups", *_CAPABILITIES]

# Python runs a module of this name when it starts, in worker processes too.
SITECUSTOMIZE = """
import grp, pwd

def unknown(number):
    raise KeyError(f"uid not found: {number}")

pwd.getpwuid = grp.getgrgid = unknown
"""


def can_change_user() -> bool:
    """Whether this process may start others as another user who may read everything."""
    try:
        return os.geteuid() == 0 and not subprocess.run([*SETPRIV, "true"], capture_output=True).returncode
    except OSError:
        return False


class StrangeUser:
    """Runs commands of this project as a user without a name and a home.

    Args:
        directory: empty directory, which becomes the user's.
        real: change to a user whom this machine does not know; otherwise Python itself finds no names.
    """

    def __init__(self, directory, real):
        self._prefix = SETPRIV if real else []
        self.home = directory
        path = [str(ROOT)]
        if real:
            os.chown(directory, UNKNOWN, UNKNOWN)
        else:
            names = directory.parent / "no names"
            names.mkdir()
            (names / "sitecustomize.py").write_text(SITECUSTOMIZE)
            path.insert(0, str(names))
        kept = {name: value for name, value in os.environ.items() if name not in _NAMES}
        self._environment = {
            **kept,
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XLA_FLAGS": xla_flags(1),
        }

    def python(self, *words):
        """Run Python with these words, in the user's directory."""
        return subprocess.run(
            [*self._prefix, sys.executable, *map(str, words)],
            capture_output=True,
            text=True,
            cwd=self.home,
            env=self._environment,
            timeout=HANG,
        )

    def run(self, module, *words):
        """Run a command, which must succeed, and return what it printed on stdout."""
        done = self.python("-m", module, *words)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout


def give_away(root, owner=OTHER):
    """Give every file under a directory to a user without a name; only root can."""
    for inside, directories, files in os.walk(root):
        for name in (".", *directories, *files):
            os.chown(os.path.join(inside, name), owner, owner)
