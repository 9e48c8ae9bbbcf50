"""What models that fill entries in an order share, one fixed order or any."""
