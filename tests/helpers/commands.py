"""The command line, as a user calls it."""

import json

from reproduction import cli


def run(*arguments):
    """Its exit code."""
    return cli.main([str(argument) for argument in arguments])


def nll(folder, out, *more):
    """What `mlegfn nll --json` wrote."""
    assert run("nll", folder, "--json", out, *more) == 0
    return json.loads(out.read_text())


def last_error(capsys):
    """The one line that stderr ends with, after the progress bars."""
    shown = capsys.readouterr().err
    lines = [line for part in shown.split("\r") for line in part.splitlines() if line.startswith("mlegfn: ")]
    assert len(lines) == 1 and shown.endswith(lines[0] + "\n") and "Traceback" not in shown
    return lines[0]
