"""The stations of the lecture notes, one file each."""
