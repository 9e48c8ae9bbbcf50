"""A line that says how far a run is and how long it will still take, from what Snakemake prints."""

import re
import sys
import time

STARTED = re.compile(r"^(?:local)?rule (\S+):$")
FINISHED = re.compile(r"^Finished jobid: \d+ \(Rule: (\S+)\)$")
FAILED = re.compile(r"^Error in rule (\S+):$")
# Before a kind of stage has finished once, its time is a guess: so many times that of the others.
WEIGHTS = {"pretrain": 3.0, "finetune": 3.0, "planar": 4.0, "family": 2.0}


class Progress:
    """Counts finished stages; a context manager that keeps one line of the terminal up to date.

    names: the stages that may run, in ``order``. Where stderr is no terminal, a line for every stage.
    """

    def __init__(self, names, order, cores, stream=None):
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
            self.times.setdefault(match[1].split("@")[0], []).append(seconds)
            self.done += 1
            self.show(match[1])
        elif (match := FAILED.match(line)) and match[1] not in self.failed:
            self.running.pop(match[1], None)
            self.failed.append(match[1])

    def remaining(self):
        """Seconds until the end, None before anything has finished."""
        if not self.times:
            return None
        means = {kind: sum(t) / len(t) for kind, t in self.times.items()}
        unit = sum(mean / WEIGHTS.get(kind, 1.0) for kind, mean in means.items()) / len(means)

        def expected(name):
            kind = name.split("@")[0]
            return means.get(kind, unit * WEIGHTS.get(kind, 1.0))

        now = time.monotonic()
        left = sum(map(expected, self.waiting))
        left += sum(max(0.0, expected(name) - (now - start)) for name, start in self.running.items())
        return left / self.cores

    def show(self, finished=None):
        """Bring the line up to date, or print one."""
        seconds = self.remaining()
        if seconds is None:
            left = ""
        else:
            left = f", about {seconds / 60:.0f} min left" if seconds > 90 else f", about {seconds:.0f} s left"
        if self.bar is not None:
            self.bar.n = self.done
            self.bar.set_description_str(next(reversed(self.running), "").ljust(26), refresh=False)
            self.bar.set_postfix_str(left.removeprefix(", "), refresh=True)
        elif finished:
            elapsed = time.monotonic() - self.begin
            print(
                f"[{self.done}/{self.total}] {finished}  {elapsed:.0f} s{left}", file=self.stream, flush=True
            )
