"""What settings are made of, and how params.yaml is read and validated."""
