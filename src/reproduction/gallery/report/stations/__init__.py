"""The stations' figures, one file each."""
