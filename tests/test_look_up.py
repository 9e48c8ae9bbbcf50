"""Settings that DVC looks up by their names, without comparing a name with every value."""

import dpath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlegfn.pipeline.lockfile import look_up

KEYS = st.text("ab*1", min_size=1, max_size=2)
SETTINGS = st.dictionaries(
    KEYS,
    st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner) | st.lists(inner)),
    min_size=1,
)


def found(get, settings, name):
    """What ``get`` returns, or the kind of its error."""
    try:
        return get(settings, name)
    except (KeyError, ValueError) as error:
        return type(error)


@given(SETTINGS, st.lists(st.text("ab1", min_size=1, max_size=2), min_size=1, max_size=3).map(".".join))
def test_a_name_means_what_it_means_to_dvc(settings, name):
    def dvcs(settings, name):
        return dpath.get(settings, name, separator=".")

    assert found(lambda *given: look_up(dpath.get, *given), settings, name) == found(dvcs, settings, name)


def test_it_does_not_search_where_the_name_leads():
    def search(*_, **__):
        raise AssertionError

    assert look_up(search, {"a": {"b": [1, 2]}}, "a.b") == [1, 2]
    with pytest.raises(AssertionError):
        look_up(search, {"a": {"b": 1}}, "a.*")
