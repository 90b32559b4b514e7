"""Runs a training command: logging, compilation cache, signals, hosts and exit codes."""

import logging as stdlib_logging
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

import jax
from absl import flags, logging

from data_pipeline.common.errors import one_line
from hicmae_jax.hosts import agreement, connect
from hicmae_jax.runs import host_memory, process_start
from hicmae_jax.supervision.signals import EXIT_CODES, Stopped, StopSignals
from hicmae_jax.training import chips
from launch import compilation_cache, host_flags

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the flags of every training command."""
    flags.DEFINE_enum("platform", None, ["cpu", "gpu", "tpu"], "Devices to use; by default the best found.")
    host_flags.define_flags()


def run(program: str, train: Callable[[str, StopSignals], object]) -> NoReturn:
    """Train, then end the process; `docs/operations.md` lists the exit codes.

    Args:
        program: name of the command, which its messages begin with.
        train: called with JAX's name of the platform and with the signals that ask the run to stop.
    """
    process_start.count()
    configure_logging()
    configure_jax()
    try:
        stop_signals = StopSignals().__enter__()  # never exited, because `leave` ends the process
        host_flags.connect(program)
        train(find_platform(), stop_signals)
    except jax.errors.JaxRuntimeError as error:
        # The message of a compiler or a device is long, so it is printed before the program's own line.
        connect.leave(program, 1, "the devices or JAX have failed, see above", error)
    except agreement.RefusedError as error:
        connect.leave(program, 1, one_line(error), known=True)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        connect.leave(program, 1, one_line(error))
    except Stopped as stopped:
        connect.leave(program, EXIT_CODES[stopped.signal], str(stopped), known=stopped.step is not None)
    except Exception as error:
        connect.leave(program, 1, f"a mistake in the program ({type(error).__name__}), see above", error)
    connect.leave(program, 0, known=True)


def configure_logging() -> None:
    """Silence the long messages of libraries about a failed write; the program reports it in one line."""
    logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
    stdlib_logging.getLogger("asyncio").setLevel("CRITICAL")
    sys.unraisablehook = _show_unraisable
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def configure_jax() -> None:
    """Choose the platform and the compilation cache, keep memory, and keep JAX from handling signals."""
    if FLAGS.platform:
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(FLAGS.platform, FLAGS.platform))
    # JAX adds its options to its configuration at run time, so mypy does not know them.
    if host_memory.computes_on_cpus(jax.config.jax_platforms):  # type: ignore[attr-defined]
        host_memory.keep_freed_memory()
    compilation_cache.use()
    # XLA's preemption service would take SIGTERM from this program, and ignore Ctrl-C.
    jax.config.update("jax_enable_preemption_service", False)


def find_platform() -> str:
    """The devices to train on, as `chips.platform` names them.

    Raises:
        ValueError: this machine has no such devices.
    """
    try:
        return chips.platform(jax.devices()[0])
    # JAX raises AssertionError if no plugin for the platform is installed.
    except (RuntimeError, AssertionError) as error:
        # JAX adds this option to its configuration at run time, so mypy does not know it.
        asked = FLAGS.platform or jax.config.jax_platforms  # type: ignore[attr-defined]
        why = f": {str(error).splitlines()[0]}" if str(error) else ""
        raise ValueError(f"JAX finds no {asked} devices here{why}; choose another --platform") from error


def _show_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Show an error as Python does, unless TensorStore has used an event loop that Orbax has closed."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)
