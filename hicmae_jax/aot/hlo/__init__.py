"""Parse the text of a compiled program (HLO) and count its memory traffic, arithmetic and messages."""
