"""Copy the numbers of both recipe searches into docs/recipe.md: python benchmarks/recipe_tables.py [--check]"""

import json
import re
import sys
from pathlib import Path

from tabulate import tabulate

from mlegfn.artifacts import write_text

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "recipe.md"


def load(name):
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text())


def interval(entry, digits):
    """``mean [low, high]`` with a true minus sign; empty where a run diverged."""
    if entry is None:
        return "diverged"
    low, high = entry["interval"]
    return f"{entry['mean']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]".replace("-", "−")


def setting(entry):
    """λ and whatever else only the arm tbc reads."""
    extra = f", {entry['loss']} δ={entry['huber_delta']:g}" if "loss" in entry else ""
    return f"{entry['anchor']} + {entry['weight']:g} · TBC{extra}"


def table(rows, headers):
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def digits():
    """Every setting of the search on digits; bits/dim."""
    rows = []
    for entry in load("recipe_digits.json")["results"]:
        if entry["arm"] != "tbc":
            bits = [run["bits_per_dim"] for run in entry["runs"]]
            spread = [run["variance_of_log_w"] for run in entry["runs"]]
            rows.append(
                [
                    entry["group"],
                    entry["arm"],
                    f"{sum(bits) / len(bits):.4f}",
                    "",
                    "",
                    f"{sum(spread) / len(spread):.1f}",
                ]
            )
            continue
        bits = [run.get("bits_per_dim", float("nan")) for run in entry["runs"]]
        spread = [run.get("variance_of_log_w", float("nan")) for run in entry["runs"]]
        rows.append(
            [
                entry["group"],
                setting(entry),
                f"{sum(bits) / len(bits):.4f}",
                interval(entry["minus_simple"], 4),
                interval(entry["minus_vlb"], 4),
                f"{sum(spread) / len(spread):.1f}",
            ]
        )
    return table(rows, ["group", "arm", "test bits/dim", "minus simple", "minus vlb", "Var log w (nats²)"])


def planar():
    """Every setting of the search on planar problems; nats."""
    rows = []
    for entry in load("recipe_planar.json")["results"]:
        if entry["arm"] != "tbc":
            continue
        simple, vlb = entry["minus_simple"], entry["minus_vlb"]
        rows.append(
            [
                entry["group"],
                setting(entry),
                interval(simple["nll"], 5),
                interval(vlb["nll"], 5),
                interval(vlb["elbo_nll"], 5),
                interval(vlb["log_w_variance"], 5),
            ]
        )
    return table(
        rows,
        ["group", "arm", "NLL minus simple", "NLL minus vlb", "ELBO NLL minus vlb", "Var log w minus vlb"],
    )


def alignment():
    """Norm, noise and direction of the consistency gradient."""
    rows = []
    for entry in load("recipe_digits.json")["alignment"]:
        cosines = [entry[f"cosine_tbc_{other}"] for other in ("vlb", "simple")]
        rows.append(
            [
                entry["group"],
                entry["batches"],
                entry["evaluations_a_batch"],
                *(
                    f"{entry[name]['signal_to_noise']:.2g}".replace("-", "−")
                    for name in ("tbc", "vlb", "simple")
                ),
                *("lost in noise" if c is None else f"{c:+.2f}".replace("-", "−") for c in cosines),
            ]
        )
    head = ["group", "batches", "evaluations a batch", "SNR of TBC", "SNR of the bound", "SNR of L_simple"]
    return table(rows, [*head, "cosine TBC, bound", "cosine TBC, L_simple"])


def main():
    text = PAGE.read_text()
    for name, make in (("digits", digits), ("planar", planar), ("alignment", alignment)):
        marked = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
        if not marked.search(text):
            raise SystemExit(f"docs/recipe.md has lost its markers for {name}")
        made = make()
        text = marked.sub(lambda match, made=made: f"{match[1]}\n{made}\n\n{match[2]}", text)
    if "--check" in sys.argv:
        sys.exit(text != PAGE.read_text())
    write_text(PAGE, text)


if __name__ == "__main__":
    main()
