"""Contestants of a benchmark in processes of their own that take turns.

Each has its libraries' global switches, compiled code and memory to itself: one's peak is not another's, and
one that hangs, crashes or runs out of memory loses its own row only. The parent says who runs when.
"""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, Queue

__all__ = ["Worker", "ready", "serve"]


class Worker:
    """A process of ``command``; ``ask`` sends a JSON request and waits for the JSON answer."""

    def __init__(self, name, command, log):
        self.name, self.failure = name, None
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        self.log = Path(log)
        with open(log, "w") as file:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, bufsize=1
            )
        self.answers = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("answer "):
                self.answers.put(json.loads(line.removeprefix("answer ")))
        self.answers.put(None)  # the process has ended

    def ask(self, request, seconds):
        """The answer, or None: the worker failed or took too long, is ended, and ``failure`` says why."""
        if self.failure:
            return None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            answer = self.answers.get(timeout=max(seconds, 0.1))
        except Empty:
            return self._give_up(f"no answer to {request['do']} within {seconds:.0f} s")
        except OSError:
            answer = None
        if answer is None:
            lines = self.log.read_text(errors="replace").strip().splitlines() or ["no message"]
            return self._give_up(lines[-1][:300])
        return answer

    def _give_up(self, why):
        self.failure = why
        self.close()

    def close(self):
        """End the process."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def ready(workers, request, until, at_once):
    """Ask each worker ``request(worker)``, ``at_once`` of them at a time, until the clock shows ``until``
    (time.monotonic()); {name: answer} of those that answered."""
    with ThreadPoolExecutor(at_once) as pool:
        answers = pool.map(lambda worker: worker.ask(request(worker), until - time.monotonic()), workers)
        return {w.name: a for w, a in zip(workers, answers, strict=True) if a is not None}


def serve(handlers):
    """In the worker: answer requests ``{"do": name, …}`` by ``handlers[name](**…)`` until stdin ends."""
    for line in sys.stdin:
        request = json.loads(line)
        answer = handlers[request.pop("do")](**request)
        print("answer " + json.dumps(answer), flush=True)
