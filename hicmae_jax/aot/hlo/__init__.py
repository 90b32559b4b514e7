"""What a compiled program does: its text read, its memory traffic, arithmetic and messages counted."""
