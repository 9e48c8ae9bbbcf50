"""What dvc.lock records, and whether it holds together, also in a clone without DVC's cache."""

from mlegfn.errors import UserError
from mlegfn.pipeline import hashes, lockfile
from mlegfn.pipeline.lock_yaml import parse


def fresh_results(tracked):
    """The stages that dvc.lock records, by name, with their entries; one that is stale is a UserError.

    What is not ``tracked`` by git may be missing here, as in a clone: then dvc.lock must say the same of it where
    it is made and where it is read.
    """
    from mlegfn.pipeline import engine

    entries, pipeline = lock_entries(), engine.ask_dvc()
    made = {out["path"]: out["md5"] for entry in entries.values() for out in entry.get("outs", ())}
    found = {name: entries[name] for name in pipeline.stages if name in entries}
    for name, entry in found.items():
        read = {dep["path"]: dep.get("md5") for dep in entry.get("deps", ())}
        for what, how in pipeline.stages[name].changes.items():
            if what not in tracked and how in ("missing", "not in cache"):
                if read.get(what) in (None, made_there(what, made)):
                    continue
                how = "made anew since, by dvc.lock"
            raise UserError(
                f"{name}: stale, {what} ({how}); run `make reproduce` for its scale, commit, then bundle"
            )
    return found


def made_there(path, made):
    """The MD5 that ``path`` has by what stages made: an output's own, or that of the folder that outputs lie in."""
    if path in made:
        return made[path]
    inside = {out.removeprefix(f"{path}/"): md5 for out, md5 in made.items() if out.startswith(f"{path}/")}
    return hashes.folder(inside)


def lock_entries():
    """``{stage: its entry}`` of dvc.lock, an entry parsed at a time as anchors repeat; none is a UserError."""
    import yaml

    try:
        return {name: parse(text)[name] for name, text in lockfile.existing().items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise UserError("dvc.lock: not as DVC writes it; restore it from git") from None
