"""Stage ``gallery.run_reading_station``: a station that reads another one's models."""

from reproduction.gallery.run_station import run

__all__ = ["run"]
