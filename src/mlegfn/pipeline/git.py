"""Asking git: what it prints, as bytes."""

import subprocess

from mlegfn.errors import UserError


def git(*arguments, stdin=None):
    """What git prints; a failure is a UserError with its last line."""
    try:
        done = subprocess.run(["git", *arguments], input=stdin, capture_output=True)
    except OSError:
        raise UserError("git: not found; install it, commits are its") from None
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise UserError(f"git {arguments[0]}: {last.removeprefix('fatal: ')}")
    return done.stdout


def quietly(*arguments, stdin=None):
    """What git prints; None where it fails or is missing."""
    try:
        return git(*arguments, stdin=stdin)
    except UserError:
        return None
