"""The provenance of a stage, for those that the page shows."""

from pathlib import Path

from mlegfn.errors import UserError


def of_stage(name, lock):
    """mlegfn.pipeline.provenance's record of a stage, or None where it has never run.

    ``lock``: mlegfn.pipeline.recorded's ``Lock``, read once for all stages of a page.
    """
    from mlegfn.pipeline import provenance

    try:
        return provenance.of_stage(name, lock)
    except UserError:
        return None


def measured(scale, names, lock):
    """What the trainings and measurements of a scale were recorded to have taken: a dictionary, or None.

    ``{"stages", "recorded", "seconds", "peak_memory_mib", "devices": [text]}``; ``names``: all stages of the scale.
    """
    folder = Path("results", scale, "provenance")
    found = [of_stage(name, lock) for name in names if (folder / f"{name}.json").is_file()]
    found = [record for record in found if record and record["recorded"]]
    if not found:
        return None
    peaks = [record["peak_memory_mib"] for record in found if record["peak_memory_mib"]]
    return {
        "stages": len(names),
        "recorded": len(found),
        "seconds": sum(record["wall_s"] or 0 for record in found),
        "peak_memory_mib": max(peaks, default=None),
        "devices": sorted({device(record) for record in found}),
    }


def device(record):
    """``cpu: AMD EPYC 7B13, 2 cores``, or that nobody recorded it."""
    about = record.get("device")
    if not about:
        return "not recorded"
    cores = f", {about['cores']} cores" if about.get("cores") else ""
    name = f": {about['name']}" if about.get("name") else ""
    return f"{about['kind']}{name}{cores}"
