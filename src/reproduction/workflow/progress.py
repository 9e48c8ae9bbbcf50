"""How far a run is and how long it will still take."""

import sys
import time

__all__ = ["Progress", "in_words", "remaining"]

# What this run's first seconds say of its pace is mostly how long a stage takes to start: this many, at the recorded
# pace, are added to what has run.
SETTLED = 60.0


def remaining(waiting, running, cores, known, ran=None):
    """Seconds until stages have run on ``cores``, None where nothing is known of any.

    waiting: names; running: {name: seconds so far}; known: {name: seconds} that stages took when they last ran, perhaps
    on another machine; ran: {name: seconds} of this run, which says how this machine compares.
    """
    ran = ran or {}
    both = [name for name in ran if known.get(name)]
    pace = (SETTLED + sum(ran[name] for name in both)) / (SETTLED + sum(known[name] for name in both))
    expected = {name: seconds * pace for name, seconds in known.items()} | ran
    if not expected:
        return None
    kinds = {}
    for name, seconds in expected.items():
        kinds.setdefault(name.partition("@")[0], []).append(seconds)
    overall = sum(expected.values()) / len(expected)

    def of(name):
        alike = kinds.get(name.partition("@")[0], [overall])
        return expected.get(name, sum(alike) / len(alike))

    left = [of(name) for name in waiting] + [max(0.0, of(name) - so_far) for name, so_far in running.items()]
    return max(sum(left) / cores, *left) if left else 0.0


def in_words(seconds):
    """A span of time: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds <= 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours >= 3 else f"{60 * hours + minutes} min"


class Progress:
    """One live line on a terminal; a line for each finished stage elsewhere. A context manager.

    names: the stages of the run; known: as in ``remaining``.
    """

    def __init__(self, names, cores, known, stream=None):
        self.names, self.cores, self.known = list(names), cores, known
        self.running, self.took = {}, {}  # {name: when it began}, {name: seconds}
        self.total, self.begin = len(self.names), time.monotonic()
        self.stream = stream or sys.stderr
        self.bar = None

    def __enter__(self):
        if self.stream.isatty():
            from tqdm import tqdm

            form = "{n_fmt}/{total_fmt} |{bar:16}| {elapsed}{postfix}"
            self.bar = tqdm(
                total=self.total, file=self.stream, bar_format=form, mininterval=0, dynamic_ncols=True
            )
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()

    def update(self, done, running):
        """done: names of finished stages; running: names of those that run now.

        A stage that has ended and that DVC still records is in neither; it counts as running.
        """
        now, finished = time.monotonic(), [name for name in done if name not in self.took]
        for name in running:
            self.running.setdefault(name, now)
        for name in finished:
            self.took[name] = now - self.running.pop(name, now)
        if self.bar is None:
            for name in finished:
                self._print(name)
        if self.bar is not None:
            self.bar.n = len(self.took)
            names = ", ".join(self.running)
            self.bar.set_postfix_str(self._left() + (f" | {names}" if names else ""), refresh=True)

    def _left(self):
        now = time.monotonic()
        running = {name: now - begun for name, begun in self.running.items()}
        waiting = [name for name in self.names if name not in self.took and name not in running]
        seconds = remaining(waiting, running, self.cores, self.known, self.took)
        return "" if seconds is None else f"about {in_words(seconds)} left"

    def _print(self, name):
        elapsed, left = time.monotonic() - self.begin, self._left()
        text = f"[{len(self.took)}/{self.total}] {name}  {elapsed:.0f} s" + (f", {left}" if left else "")
        print(text, file=self.stream, flush=True)
