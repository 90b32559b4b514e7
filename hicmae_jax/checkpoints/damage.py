"""What is wrong with a checkpoint: its files have changed, or its directory has the name of another step."""

from etils import epath

from hicmae_jax.checkpoints import checksums, reader


def find_damage(path: epath.Path) -> str | None:
    """Compare a checkpoint with its seal, and its name with the step in its state.

    Args:
        path: directory of the checkpoint, named by its step.

    Returns:
        One line that says what is wrong; None if the checkpoint is whole.
    """
    if reason := checksums.check(path):
        return reason
    try:
        step = reader.read_step(path)
    except ValueError as error:
        return str(error)
    if step is not None and str(step) != path.name:
        return f"its state is of step {step:,}: somebody has renamed or copied it"
    return None
