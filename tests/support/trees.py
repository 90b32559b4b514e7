"""Comparing trees of arrays."""

import jax
import numpy as np
from flax.traverse_util import flatten_dict


def assert_trees_close(actual, expected, tolerance):
    """Compare trees leaf by leaf; `tolerance` is relative to the largest value of a leaf."""
    actual, expected = flatten_dict(actual, sep="/"), flatten_dict(expected, sep="/")
    assert actual.keys() == expected.keys()
    for path in actual:
        scale = np.abs(expected[path]).max() + 1e-7
        np.testing.assert_allclose(actual[path] / scale, expected[path] / scale, atol=tolerance, err_msg=path)


def distances(tree, exact):
    """Distance of each array from the exact one, relative to its norm."""

    def distance(x, y):
        x, y = (np.asarray(a, np.float64) for a in (x, y))
        return float(np.linalg.norm(x - y) / np.linalg.norm(y))

    return jax.tree.leaves(jax.tree.map(distance, tree, exact))


def largest_difference(tree, expected):
    """The largest of `distances`."""
    return max(distances(tree, expected))
