"""The commands of SLURM, in one file, for a machine without it: sbatch really runs the job, here and at once.

``install(folder)`` puts them into folder/bin; every call of sbatch is a line of folder/sbatch.jsonl, and the job's
process id lies in folder/<job>.pid. sacct answers when the last job has ended. They believe what they are told: no queue, no limits, no cgroups.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "squeue", "sinfo", "scancel", "sacctmgr", "sshare", "scontrol")


def install(folder):
    """Write the commands; returns the folder to put on the PATH."""
    binaries = folder / "bin"
    binaries.mkdir(parents=True)
    for name in COMMANDS:
        script = binaries / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -S {__file__} {folder} {name} "$@"\n')
        script.chmod(0o755)
    return binaries


def submitted(folder):
    """The command line of each sbatch, a list of arguments."""
    log = folder / "sbatch.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def option(arguments, *names):
    """The value of ``--name value``, ``--name=value``; None without it."""
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            return value if equals else arguments[i + 1]
    return None


def sbatch(folder, arguments):
    number = str(len(submitted(folder)) + 1)
    with open(folder / "sbatch.jsonl", "a") as file:
        file.write(json.dumps(arguments) + "\n")
    # What a cluster does with it: --gpus devices of its own, SLURM_* in the environment.
    environment = {**os.environ, "SLURM_JOB_ID": number}
    if gpus := option(arguments, "--gpus"):
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(int(gpus))))
    job = f"({option(arguments, '--wrap')}); echo $? > {folder}/{number}.code"
    with open(option(arguments, "--output").replace("%j", number), "w") as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", job],
            cwd=option(arguments, "-D"),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    (folder / f"{number}.pid").write_text(str(process.pid))
    print(number)


def sacct(folder, arguments):
    if "-nu" in arguments:
        return print("none")
    last, deadline = folder / f"{len(submitted(folder))}.code", time.monotonic() + 20
    while not last.exists() and time.monotonic() < deadline:  # who asks again does so 10 s later
        time.sleep(0.1)
    for number in range(1, len(submitted(folder)) + 1):
        code = folder / f"{number}.code"
        text = code.read_text().strip() if code.exists() else ""
        print(f"{number}|{'RUNNING' if not text else 'COMPLETED' if text == '0' else 'FAILED'}")


def srun(folder, arguments):
    command = next(i for i, argument in enumerate(arguments) if not argument.startswith("-"))
    os.execvp(arguments[command], arguments[command:])


def sinfo(folder, arguments):
    print("PARTITION\nmain*")


if __name__ == "__main__":
    action = globals().get(sys.argv[2], lambda *_: None)
    action(Path(sys.argv[1]), sys.argv[3:])
