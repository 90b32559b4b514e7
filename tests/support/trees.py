"""Comparing trees of parameters."""

import numpy as np
from flax.traverse_util import flatten_dict


def assert_trees_close(actual, expected, tolerance):
    """Compare trees leaf by leaf; `tolerance` is relative to the largest value of a leaf."""
    actual, expected = flatten_dict(actual, sep="/"), flatten_dict(expected, sep="/")
    assert actual.keys() == expected.keys()
    for path in actual:
        scale = np.abs(expected[path]).max() + 1e-7
        np.testing.assert_allclose(actual[path] / scale, expected[path] / scale, atol=tolerance, err_msg=path)
