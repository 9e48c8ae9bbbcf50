"""Running, watching and sharing the stages of dvc.yaml."""
