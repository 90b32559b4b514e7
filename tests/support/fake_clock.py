"""A clock that a test moves, for code that waits and times out."""


class FakeClock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now

    def go(self, seconds):
        self.now += seconds
