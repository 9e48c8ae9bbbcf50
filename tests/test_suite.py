"""benchmarks/suite.py, which measures how long the tests take."""

import sys
from xml.etree import ElementTree

from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import suite

REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="one" time="1.25"/>
<testcase classname="tests.test_a" name="two" time="0.25"><failure message="no"/></testcase>
<testcase classname="tests.test_b" name="three" time="3.0"><error message="no"/></testcase>
<testcase classname="tests.test_b" name="four" time="0.0"><skipped message="none here"/></testcase>
</testsuite></testsuites>"""


def test_what_passed_and_what_took_how_long():
    found = suite.summary(ElementTree.fromstring(REPORT))
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 2, 1)
    assert found["files"] == {"tests/test_a.py": 1.5, "tests/test_b.py": 3.0}
    assert [test for test, _ in found["slowest"]] == [
        "test_b::three",
        "test_a::one",
        "test_a::two",
        "test_b::four",
    ]
