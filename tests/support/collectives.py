"""Finds what a compiled program sends between devices."""

import re

NAMES = r"all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"


def collectives(text: str) -> list[str]:
    """Every mention of a collective in the text of a program that is compiled for 8 devices."""
    assert "num_partitions=8" in text
    return re.findall(NAMES, text)
