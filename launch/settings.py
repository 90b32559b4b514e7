"""List every setting of a recipe: `python -m launch.settings [--config=pretrain:B]`.

Each setting has its type, value, limits and meaning. Without `--config` the values are the defaults.
`--markdown` prints the table of docs/settings.md.
"""

from absl import flags

from hicmae_jax.settings import recipes, schema
from hicmae_jax.settings.pretrain import SCHEMA
from launch import command

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the flags."""
    flags.DEFINE_string("config", None, "Recipe whose values are listed, such as pretrain:B.")
    flags.DEFINE_bool("markdown", False, "Print a Markdown table.")


def listing(recipe: str | None) -> str:
    """Two lines for each setting: first name, value, type and limits; then the meaning.

    Args:
        recipe: recipe whose values are listed; None for the defaults.

    Raises:
        ValueError: there is no such recipe, or it leaves a setting out.
    """
    values = {key: value for key, _, value, _, _ in SCHEMA.rows()}
    if recipe is not None:
        values = {key: schema.shown(value) for key, value in SCHEMA.read(recipes.load(recipe)).items()}
    return "\n".join(
        f"{key} = {values[key]}    {kind}{f', {limits}' if limits else ''}\n    {meaning}"
        for key, kind, _, limits, meaning in SCHEMA.rows()
    )


def markdown() -> str:
    """The table of docs/settings.md."""
    lines = ["| setting | type | default | limits | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| `{key}` | {kind} | `{default}` | {limits} | {meaning} |"
        for key, kind, default, limits, meaning in SCHEMA.rows()
    ]
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Print the list."""
    print(markdown() if FLAGS.markdown else listing(FLAGS.config))
    return 0


if __name__ == "__main__":
    command.run("settings", define_flags, main)
