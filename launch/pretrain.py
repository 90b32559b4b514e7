"""Pre-train HiCMAE, or go on with a run.

    python -m launch.pretrain --config=pretrain:B --config.data.sets=prepared/dev --run=runs/b

The same command goes on where the run has stopped. `configs/pretrain.py` lists every setting; each can be
changed here, as `--config.batch=1024`. On several hosts give it to each. `docs/operations.md` has more of
that, and what each message and exit code means.
"""

import logging as stdlib_logging
import os
import sys
import warnings
from pathlib import Path
from typing import NoReturn

import jax
from absl import flags, logging

from hicmae_jax.hosts import connect
from hicmae_jax.supervision import broken_pipe
from launch import config_flag, host_flags

FLAGS = flags.FLAGS

PROGRAM = "pretrain"

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
CACHE = Path("~/.cache/hicmae_jax/compiled")


def define_flags() -> None:
    """Declares the command line; only when run, so that other commands may use the same names."""
    flags.DEFINE_string("run", None, "Directory of the run; new, or one to go on with.", required=True)
    flags.DEFINE_enum("platform", None, ["cpu", "gpu", "tpu"], "Devices to use; by default the best found.")
    flags.DEFINE_bool(
        "allow_changes", False, "Go on although the data, seed or batch are not those of the run so far."
    )
    flags.DEFINE_string("branch_from", None, "Another run, whose checkpoint this one begins with.")
    flags.DEFINE_integer("branch_step", None, "Which of its checkpoints; by default the last.", lower_bound=0)


def main(argv: list[str]) -> NoReturn:
    """Runs the command and ends the process."""
    logging.set_verbosity(logging.WARNING)
    # Of a write that fails Orbax prints pages, and leaves tasks and coroutines behind, besides our line.
    logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
    stdlib_logging.getLogger("asyncio").setLevel("CRITICAL")
    sys.unraisablehook = _show_unraisable
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    if FLAGS.platform:
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(FLAGS.platform, FLAGS.platform))
    if CACHE_VARIABLE not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(CACHE.expanduser()))
    # XLA would take SIGTERM for itself, and Ctrl-C not.
    jax.config.update("jax_enable_preemption_service", False)
    from hicmae_jax.hosts import agreement
    from hicmae_jax.runs import pretrain
    from hicmae_jax.runs.branching import Branch
    from hicmae_jax.settings import pretrain as run_config
    from hicmae_jax.supervision.signals import EXIT_CODES, Stopped, StopSignals

    broken_pipe.ignore_broken_pipes()
    try:
        stop_signals = StopSignals().__enter__()  # for good: `leave` ends the process
        host_flags.connect(PROGRAM)
        platform = _platform()
        with agreement.all_or_none():
            config = run_config.from_config_dict(FLAGS.config, platform)
        if FLAGS.branch_step is not None and not FLAGS.branch_from:
            raise ValueError(f"--branch_step={FLAGS.branch_step} goes with --branch_from=RUN")
        branch = Branch(FLAGS.branch_from, FLAGS.branch_step) if FLAGS.branch_from else None
        pretrain.run(config, FLAGS.run, FLAGS.allow_changes, stop_signals=stop_signals, branch=branch)
    except jax.errors.JaxRuntimeError as error:
        # A compiler's or device's message is pages of its own.
        connect.leave(PROGRAM, 1, "the devices or JAX have failed, see above", error)
    except agreement.RefusedError as error:
        connect.leave(PROGRAM, 1, str(error), known=True)
    except (ValueError, OSError, RuntimeError) as error:
        connect.leave(PROGRAM, 1, str(error))
    except Stopped as stopped:
        connect.leave(PROGRAM, EXIT_CODES[stopped.signal], str(stopped), known=stopped.step is not None)
    except Exception as error:
        connect.leave(PROGRAM, 1, f"a mistake in the program ({type(error).__name__}), see above", error)
    connect.leave(PROGRAM, 0, known=True)


def _show_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """As Python does, but for what TensorStore's other writes report to the loop that Orbax has closed."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _platform() -> str:
    """JAX's name of the devices to train on.

    Raises:
        ValueError: there are none of those asked for.
    """
    try:
        return jax.default_backend()
    # JAX asserts where no plugin for the platform is installed.
    except (RuntimeError, AssertionError) as error:
        asked = FLAGS.platform or jax.config.jax_platforms
        why = f": {str(error).splitlines()[0]}" if str(error) else ""
        raise ValueError(f"JAX finds no {asked} devices here{why}; choose another --platform") from error


if __name__ == "__main__":
    define_flags()
    host_flags.define_flags()
    flags.adopt_module_key_flags(host_flags)  # for --help
    config_flag.run(main)
