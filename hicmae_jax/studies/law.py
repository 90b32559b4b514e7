"""The law of scaling: loss as a sum of what cannot be removed, what size removes, and what examples remove.

`L(N, D) = E + A / N^alpha + B / D^beta` with N parameters and D training examples (Hoffmann et al. 2022,
arXiv 2203.15556, equation 2).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Law:
    """One law. With runs of only one size or one number of examples, that term is left out.

    Attributes:
        E: loss of an infinite model after infinitely many examples.
        A: factor of the term of size; 0 if it is left out.
        B: factor of the term of examples; 0 if it is left out.
        alpha: exponent of size; None if that term is left out.
        beta: exponent of examples; None if that term is left out.
    """

    E: float
    A: float
    B: float
    alpha: float | None
    beta: float | None

    def loss(self, parameters: Any, examples: Any) -> np.ndarray:
        """Loss that the law gives, float64.

        Args:
            parameters: N, a number or an array.
            examples: D, a number or an array that is broadcast against N.
        """
        # Powers by logarithms: A alone may be larger than N^alpha by many orders of magnitude.
        return np.asarray(
            self.E + _term(self.A, self.alpha, parameters) + _term(self.B, self.beta, examples), np.float64
        )

    def as_text(self) -> str:
        """The law as an equation."""
        text = f"L(N, D) = {self.E:.4g}"
        if self.alpha is not None:
            text += f" + {self.A:.4g} / N^{self.alpha:.4g}"
        if self.beta is not None:
            text += f" + {self.B:.4g} / D^{self.beta:.4g}"
        return text


def losses(laws: Sequence[Law], parameters: float, examples: float) -> np.ndarray:
    """float64[m], the loss that each of m laws gives for one run.

    Args:
        laws: m laws.
        parameters: N.
        examples: D.
    """
    numbers = [(law.E, law.A, law.B, law.alpha or 0.0, law.beta or 0.0) for law in laws]
    E, A, B, alpha, beta = np.array(numbers, np.float64).T
    with np.errstate(divide="ignore"):  # the logarithm of a factor of 0, whose term is then 0
        of_size = np.exp(np.log(A) - alpha * math.log(parameters))
        return E + of_size + np.exp(np.log(B) - beta * math.log(examples))


def _term(factor: float, exponent: float | None, amount: Any) -> np.ndarray:
    if exponent is None or factor == 0:
        return np.zeros(np.shape(amount))
    return np.exp(math.log(factor) - exponent * np.log(amount))
