"""Verdicts in sentences. Every number and every word that judges comes from a verdict file."""

TESTED = ("reproduced", "not reproduced")
PAPERS = {"verdict": "2209.02606", "discrete": "2202.01361", "divergences": "2410.09355"}


def number(value, unit=None):
    """``−0.0474``; MMD² in thousandths, as in the tables."""
    scaled = value * (1000 if unit == "MMD²" else 1)
    return f"{scaled:+.4f}".replace("-", "−")


def unit_of(row):
    """The unit as it stands behind the number."""
    return "10⁻³ MMD²" if row["unit"] == "MMD²" else row["unit"]


def interval(row):
    """``[−0.0554, −0.0394]``, or empty."""
    if row["interval"] is None:
        return ""
    low, high = (number(each, row["unit"]) for each in row["interval"])
    return f"[{low}, {high}]"


def seeds(row):
    """How many seeds the interval is over."""
    if not row["seeds"]:
        return ""
    return f"{row['seeds']} seeds" if row["seeds"] > 1 else "1 seed, interval not over seeds"


def reading(row):
    """One sentence of what a verdict found, without the verdict itself."""
    if row["estimate"] is None:
        return sentence(row["detail"])
    worst = "the worst is " if len(row["parts"]) > 1 else ""
    counted, _, notes = row["detail"].partition("; ")
    found = (
        f"{counted}; {worst}{number(row['estimate'], row['unit'])} {interval(row)} {unit_of(row)} "
        f"({row['where']}), {seeds(row)}"
    )
    return sentence(f"{found}. {sentence(notes)}" if notes else found)


def sentence(text):
    """Starts with a capital, ends with a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def listed(names):
    """``a``, ``a and b``, ``a, b and c``."""
    names = list(names)
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def outcome(rows):
    """The page's first sentences: whether Figure 1 holds, whether its control does, what it costs, and the count.

    ``rows``: verdicts as their files hold them, with ``scale``.
    """
    tested = [row for row in rows if row["verdict"] in TESTED]
    if not tested:
        return ["Nothing has been measured in this checkout yet; `make reproduce` measures it."]
    found = []
    beats, control = (_where(tested, name) for name in ("figure1-from-every-checkpoint", "vlb-at-equal-steps"))
    if beats:
        text = f"Fine-tuning with MLE-GFN {_beats(*beats)} the baseline from every checkpoint, as Figure 1 says"
        if control:
            agree = bool(beats[0]) == bool(control[0])
            text += f"{', and' if agree else ', but'} it {_beats(*control)} the same fine-tuning on the bound alone, without the consistency term"
            if not control[0]:
                text += ": the term is not shown to be why"
        found.append(f"{text}.")
    if cost := _where(tested, "baseline-at-equal-evaluations"):
        found.append(f"At equal network evaluations instead of equal steps, it {_beats(*cost)} the baseline.")
    good = sum(row["verdict"] == "reproduced" for row in tested)
    found.append(
        f"Of {len(tested)} verdicts at {_count(len({row['scale'] for row in tested}), 'scale')}, {good} say "
        f"“reproduced” and {len(tested) - good} “not reproduced”; {len(rows) - len(tested)} more could not be "
        "tested at their scale."
    )
    return found


def _where(tested, name):
    """(scales at which the claim held, scales at which it did not), or None where it was tested nowhere."""
    held = [row["scale"] for row in tested if row["id"] == name and row["verdict"] == "reproduced"]
    failed = [row["scale"] for row in tested if row["id"] == name and row["verdict"] != "reproduced"]
    return (held, failed) if held or failed else None


def _beats(held, failed):
    if not failed:
        return f"beats (at {_scales(held)})"
    if not held:
        return f"does not beat (at {_scales(failed)})"
    return f"beats (at {_scales(held)}, not at {_scales(failed)})"


def _scales(names):
    return listed(f"`{name}`" for name in names)


def _count(n, noun):
    return f"{n} {noun}{'s' * (n != 1)}"
