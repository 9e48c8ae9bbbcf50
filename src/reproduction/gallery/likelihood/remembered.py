"""A network that answers the same question once."""

import hashlib

__all__ = ["Remembered"]


class Remembered:
    """network(x [N, ...], time [N]), which keeps what it said of a batch it has seen, to the byte.

    Models that differ in the reverse variance alone are measured at equal states, so one pass of the network does for
    all of them. What it keeps has the size of the output of every batch it ever saw: forget it with the object.
    """

    def __init__(self, network):
        self.network, self.known, self.evaluations = network, {}, 0

    def __call__(self, x, time):
        question = hashlib.sha256(x.numpy().tobytes() + time.numpy().tobytes()).digest()
        if question not in self.known:
            self.known[question] = self.network(x, time)
            self.evaluations += len(x)
        return self.known[question]
