"""List every setting of a kind of run, or of a recipe.

    python -m launch.settings --kind=finetune
    python -m launch.settings --config=finetune:crema_d

Each setting has its type, value, limits and meaning. Without `--config` the values are the defaults.
`--markdown` prints a table of docs/settings.md.
"""

from absl import flags

from hicmae_jax.settings import finetune, pretrain, recipes, schema
from hicmae_jax.settings.schema import Schema
from launch import command

FLAGS = flags.FLAGS
SCHEMAS = {"pretrain": pretrain.SCHEMA, "finetune": finetune.SCHEMA}
"""Kind of run → its settings."""


def define_flags() -> None:
    """Declare the flags."""
    flags.DEFINE_enum("kind", "pretrain", list(SCHEMAS), "Kind of run whose settings are listed.")
    flags.DEFINE_string(
        "config", None, "Recipe whose values are listed, such as pretrain:B or finetune:crema_d."
    )
    flags.DEFINE_bool("markdown", False, "Print a Markdown table of the defaults.")


def listing(kind: str, recipe: str | None = None) -> str:
    """Two lines for each setting: first name, value, type and limits; then the meaning.

    Args:
        kind: kind of run, one of `SCHEMAS`; not used if there is a recipe, which says its own kind.
        recipe: recipe whose values are listed; None for the defaults.

    Raises:
        ValueError: there is no such recipe, or it leaves a setting out.
    """
    chosen, changed = SCHEMAS[kind], {}
    if recipe is not None:
        chosen, values = _of_recipe(recipe)
        changed = {key: schema.shown(value) for key, value in values.items()}
    return "\n".join(
        f"{key} = {changed.get(key, default)}    {type_}{f', {limits}' if limits else ''}\n    {meaning}"
        for key, type_, default, limits, meaning in chosen.rows()
    )


def _of_recipe(recipe: str) -> tuple[Schema, dict[str, object]]:
    """The settings of a recipe, and their values: of the kind with which it has most names in common."""
    config = recipes.load(recipe)
    names = set(schema.flatten(config.to_dict(preserve_field_references=True)))
    chosen = max(SCHEMAS.values(), key=lambda known: len(names & set(known.entries)))
    return chosen, chosen.read(config)


def markdown(kind: str) -> str:
    """The table of a kind of run in docs/settings.md."""
    lines = ["| setting | type | default | limits | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| `{key}` | {type_} | `{default}` | {limits} | {meaning} |"
        for key, type_, default, limits, meaning in SCHEMAS[kind].rows()
    ]
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Print the list."""
    if FLAGS.config is not None and (given := [name for name in ("kind", "markdown") if FLAGS[name].present]):
        raise ValueError(f"--{given[0]} does not go with --config, whose recipe is of one kind: leave it out")
    print(markdown(FLAGS.kind) if FLAGS.markdown else listing(FLAGS.kind, FLAGS.config))
    return 0


if __name__ == "__main__":
    command.run("settings", define_flags, main)
