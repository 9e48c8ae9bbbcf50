"""What must hold of a checkout at every moment, finished or not."""

import re

from faults.checkouts import digest, outs


def harm(checkout, reference):
    """What is wrong in an unfinished checkout, as sentences; nothing may be.

    An artifact is there whole or not at all; what dvc.lock records is there; the cache has whole objects only.
    """
    expected, found = reference["manifest"], []
    for top in (checkout.root / "data/smoke", checkout.root / "results/smoke"):
        for path in sorted(top.rglob("*")):
            name = str(path.relative_to(checkout.root))
            if path.is_file() and name in expected and digest(path) != expected[name]:
                found.append(f"{name}: not the undisturbed run's")
    for stage, entry in checkout.recorded().items():
        for out in re.findall(r"^    - path: (.+)$", outs(entry), re.MULTILINE):
            if not (checkout.root / out).exists():
                found.append(f"{out}: recorded by {stage}, but not there")
    found += [f"cache object {name}: not its content's MD5" for name in checkout.cache()[1]]
    return found[:20]
