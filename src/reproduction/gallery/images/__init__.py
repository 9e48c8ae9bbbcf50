"""What the stations on images share."""
