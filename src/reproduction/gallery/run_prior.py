"""Stage ``gallery.run_prior``: the station ``prior``, which reads the models of two others."""

from reproduction.gallery.run_station import run

__all__ = ["run"]
