"""Settings of the whole session."""

from hypothesis import settings

# The same examples in every run: a change is tested, not the day's luck. Search on with another profile:
# pytest --hypothesis-profile=default
settings.register_profile("mlegfn", derandomize=True)
settings.load_profile("mlegfn")

# Files that take minutes, begun first, so that no worker is left alone with one of them at the end.
LONG = ("test_pipeline.py", "test_gpu_script.py")


def pytest_collection_modifyitems(items):
    """The long files first; the order is that of collection otherwise (--no-loadscope-reorder)."""
    items.sort(key=lambda item: item.path.name not in LONG)
