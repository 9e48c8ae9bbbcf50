"""Every number of a result that README and docs state, and every verdict in words, is what the committed files say.

registered_readme.py and registered_docs.py tie phrases to JSON. In README nothing else may be a number: what is
neither a result nor a setting nor prose listed below is an error, so that a new number needs a line there.
"""

import re

import pytest
from committed import Committed, other_lengths, other_values, small_values
from conftest import REPOSITORY
from registered_docs import DOCS
from registered_readme import RESULTS, SETTINGS, WORDS

README = "README.md"
REGISTERED = [(README, *entry) for entry in RESULTS + SETTINGS] + DOCS
NAMES = [f"{document}: {phrase[:60]}" for document, phrase, _ in REGISTERED]

# What is no result, nor a setting whose change would make it wrong: names, sizes of things that are what they are,
# and rough words of time that say so ("some", "about").
PROSE = [
    r"finetune\.consistency\.weight: 0\.001",  # what one might write into params.yaml
    r"\b(Figures?|Table|et al\.) \d+(–\d)?",
    r"\bCIFAR-10\b|\bcifar10(-\w+)?\b|\bSHA-256\b|\bMD5|\b2-D\b|\bfp32\b|\bbf16\b|\bH100\b|\bkill -9\b|\bx_0\b|\bL1\b",
    r"\b\w+\d\w*\.py\b",
    r"Two commands|two engines|three commands|the one command|four GPUs each|RANKS=4|Python ≥ 3\.11|python3-venv",
    r"two controls|two sets|at the last two",
    r"8×8",  # scikit-learn's digits
    r"the second paper's six tasks|each of the six batches",
    r"170 MB",  # torchvision's file
    r"some \d+ minutes( on 2 CPU cores)?|an hour or so of two CPU cores",  # wall times, rough on purpose
]
NUMBER = re.compile(
    rf"(?<![\w.])\d[\d.,]*\w*|[\d.]+ ?[×%]|\b({'|'.join(WORDS[2:])}|twice|half|dozen|(twen|thir|for|fif|six|seven|eigh|nine)ty|hundred\w*|thousand\w*)\b"
    r"|\w+-fold|\b\w+ times\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def committed():
    return Committed(REPOSITORY)


@pytest.fixture(scope="module")
def changed():
    return [Committed(REPOSITORY, change) for change in (other_values, small_values, other_lengths)]


def rendered(phrase, value):
    """The phrase as the document must have it; None where the value says that it is not true."""
    if "{}" not in phrase:
        assert isinstance(value, bool), f"{phrase!r}: expected whether it is true, got {value!r}"
        return phrase if value else None
    values = value if isinstance(value, tuple) else (value,)
    assert phrase.count("{}") == len(values), phrase
    return phrase.format(*values)


def flat(document):
    return " ".join((REPOSITORY / document).read_text().split())


@pytest.mark.parametrize("document, phrase, function", REGISTERED, ids=NAMES)
def test_a_document_says_what_is_committed(committed, document, phrase, function):
    expected = rendered(phrase, function(committed))
    assert expected is not None, f"{document}: not so any more: {phrase}"
    assert expected in flat(document), f"{document} does not say: {expected}"


@pytest.mark.parametrize("document, phrase, function", REGISTERED, ids=NAMES)
def test_other_results_would_be_noticed(committed, changed, document, phrase, function):
    """With every number, verdict and list changed no phrase stands; an error on the way notices nothing."""
    now = rendered(phrase, function(committed))
    seen = []
    for other in changed:
        try:
            seen.append(rendered(phrase, function(other)))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            seen.append(now)
    assert any(each != now for each in seen)


def unregistered(text, committed):
    """What looks like a number of a result in README's ``text`` and is not registered."""
    text = re.sub(r"<!-- (\w+):begin -->.*?<!-- \1:end -->", " ", text, flags=re.DOTALL)
    text = re.sub(
        r"^```.*?^```", lambda block: " ".join(re.findall(r"#(.*)", block[0])), text, flags=re.DOTALL | re.M
    )
    text = re.sub(r"!\[[^]]*\]\([^)]*\)|\]\([^)]*\)", "] ", text)
    text = " ".join(text.split())
    for phrase, function in RESULTS + SETTINGS:
        said = rendered(phrase, function(committed)) or phrase
        text = text.replace(re.sub(r"\]\([^)]*\)", "] ", said), " § ")
    for pattern in PROSE:
        text = re.sub(pattern, " § ", text)
    text = re.sub(r"`[^`]*`", " § ", text)
    return [text[max(0, match.start() - 40) : match.end() + 20] for match in NUMBER.finditer(text)]


def test_every_number_in_readme_is_registered(committed):
    found = unregistered((REPOSITORY / README).read_text(), committed)
    assert not found, (
        "tie each to its source in tests/registered_readme.py, or, if it is no result, name it in PROSE"
    )


@pytest.mark.parametrize(
    "sentence",
    [
        "It is 3.4 times as fast.",
        "5.1 bits/dim",
        "on five of the seven problems",
        "13 % better",
        "2.5× the stock loop",
        "thirty times smaller",
        "a hundredfold",
        "twice as good",
        "```sh\nmake fast   # 7 minutes\n```",
    ],
)
def test_a_new_number_in_readme_is_seen(committed, sentence):
    assert len(unregistered(f"Text.\n\n{sentence}\n", committed)) >= 1


def test_a_phrase_that_README_lost_is_seen(committed):
    with pytest.raises(AssertionError, match="does not say"):
        test_a_document_says_what_is_committed(committed, README, "{} of the 9", lambda f: 5)
    with pytest.raises(AssertionError, match="not so any more"):
        test_a_document_says_what_is_committed(committed, README, "One command", lambda f: False)
