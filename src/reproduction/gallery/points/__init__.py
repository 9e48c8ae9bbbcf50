"""What the stations in the plane share."""
