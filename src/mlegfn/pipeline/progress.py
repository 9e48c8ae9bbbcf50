"""A line that says how far a run is and how long it will still take, from what Snakemake prints."""

import re
import sys
import time

STARTED = re.compile(r"^(?:local)?rule (\S+):$")
FINISHED = re.compile(r"^Finished jobid: \d+ \(Rule: (\S+)\)$")
FAILED = re.compile(r"^Error in rule (\S+):$")
# Before a kind of stage has ever finished here, its time is a guess: so many times that of the others.
WEIGHTS = {"pretrain": 3.0, "finetune": 3.0, "planar": 4.0, "family": 2.0}

# What this run's first seconds say of its pace is mostly how long a stage takes to start: this many, as fast as ever,
# are added to what has run. Otherwise the first stage, of a tenth of a second, foretold hours.
SETTLED = 60.0


def remaining(waiting, running, cores, known, ran=None):
    """Seconds until stages have run on ``cores``, None where nothing is known of any.

    waiting: names; running: {name: seconds so far}; known: {name: seconds} that stages took when they last ran, see
    ``provenance.wall_times``, perhaps on another machine; ran: {name: seconds} of this run, which says how this one
    compares.
    """
    ran = ran or {}
    both = [name for name in ran if known.get(name)]
    pace = (SETTLED + sum(ran[name] for name in both)) / (SETTLED + sum(known[name] for name in both))
    expected = {name: seconds * pace for name, seconds in known.items()} | ran
    if not expected:
        return None
    kinds = {}
    # A kind of which something has run now goes by that alone.
    for name, seconds in [*((n, s) for n, s in expected.items() if n not in ran), *ran.items()]:
        kinds.setdefault((name in ran, name.split("@")[0]), []).append(seconds)
    means = {kind: sum(times) / len(times) for (_, kind), times in sorted(kinds.items())}
    unit = sum(mean / WEIGHTS.get(kind, 1.0) for kind, mean in means.items()) / len(means)

    def of(name):
        kind = name.split("@")[0]
        return expected.get(name, means.get(kind, unit * WEIGHTS.get(kind, 1.0)))

    left = [of(name) for name in waiting] + [max(0.0, of(name) - so_far) for name, so_far in running.items()]
    return max(sum(left) / cores, *left) if left else 0.0


def in_words(seconds):
    """A span of time as one reads it: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds <= 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours >= 3 else f"{60 * hours + minutes} min"


class Progress:
    """Counts finished stages; a context manager that keeps one line of the terminal up to date.

    names: the stages that may run, in ``order``; known: {name: seconds} that stages took before. Where stderr is
    no terminal, a line for every stage.
    """

    def __init__(self, names, order, cores, stream=None, known=None):
        self.known = known or {}
        self.waiting = [name for name in order if name in names]
        self.total, self.cores = len(names), cores
        self.running, self.times, self.failed = {}, {}, []
        self.done, self.begin = 0, time.monotonic()
        self.stream = stream or sys.stderr

    def __enter__(self):
        if self.stream.isatty():
            from tqdm import tqdm

            form = "{desc} |{bar:24}| {n_fmt}/{total_fmt} stages, {elapsed}{postfix}"
            self.bar = tqdm(total=self.total, file=self.stream, bar_format=form, mininterval=0, leave=True)
        else:
            self.bar = None
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()

    def hear(self, line):
        """Take in one line of Snakemake's output."""
        line = line.rstrip()
        if (match := STARTED.match(line)) and match[1] in [*self.waiting, *self.failed]:
            for names in (self.waiting, self.failed):  # one that failed is tried again
                if match[1] in names:
                    names.remove(match[1])
            self.running[match[1]] = time.monotonic()
            self.show()
        elif (match := FINISHED.match(line)) and match[1] in self.running:
            seconds = time.monotonic() - self.running.pop(match[1])
            self.times[match[1]] = seconds
            self.done += 1
            self.show(match[1])
        elif (match := FAILED.match(line)) and match[1] not in self.failed:
            self.running.pop(match[1], None)
            self.failed.append(match[1])

    def remaining(self):
        """Seconds until the end, None before anything is known."""
        now = time.monotonic()
        running = {name: now - start for name, start in self.running.items()}
        return remaining(self.waiting, running, self.cores, self.known, self.times)

    def show(self, finished=None):
        """Bring the line up to date, or print one."""
        seconds = self.remaining()
        left = "" if seconds is None else f", about {in_words(seconds)} left"
        if self.bar is not None:
            self.bar.n = self.done
            self.bar.set_description_str(next(reversed(self.running), "").ljust(26), refresh=False)
            self.bar.set_postfix_str(left.removeprefix(", "), refresh=True)
        elif finished:
            elapsed = time.monotonic() - self.begin
            print(
                f"[{self.done}/{self.total}] {finished}  {elapsed:.0f} s{left}", file=self.stream, flush=True
            )
