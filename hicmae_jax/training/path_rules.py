"""Regex rules over parameter paths: which parameter decays, how fast it learns, how it is sharded.

The first rule that matches a path counts. It is an error if no rule covers a parameter, or if a rule covers
no parameter. Otherwise a renamed layer would change an experiment without notice.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax

Rule = tuple[str, Any]


def path_of(key_path: tuple[Any, ...]) -> str:
    """The path of a parameter, such as `encoder/blocks_0/attn/qkv/kernel`."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def match(rules: Sequence[Rule], tree: Any) -> Any:
    """Give every leaf the value of its rule.

    Args:
        rules: pairs of a regex, which is searched in the path, and a value. A callable value is called with
            the match and the leaf.
        tree: parameters or their shapes.

    Returns:
        A tree of values with the same structure.

    Raises:
        ValueError: lists the leaves that no rule covers, or the rules that cover no leaf.
    """
    uncovered, used = [], set()

    def value(key_path: tuple[Any, ...], leaf: Any) -> Any:
        path = path_of(key_path)
        for number, (pattern, chosen) in enumerate(rules):
            found = re.search(pattern, path)
            if found:
                used.add(number)
                return chosen(found, leaf) if callable(chosen) else chosen
        uncovered.append(path)
        return None

    result = jax.tree_util.tree_map_with_path(value, tree)
    if uncovered:
        raise ValueError(f"no rule covers {', '.join(uncovered)}")
    unused = [pattern for number, (pattern, _) in enumerate(rules) if number not in used]
    if unused:
        raise ValueError(f"rules that decide for no parameter: {', '.join(unused)}")
    return result
