"""The papers reproduced with the library :mod:`mlegfn`: settings, stages, figures, tables, verdicts."""
