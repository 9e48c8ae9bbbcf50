"""The image experiment: pretraining, fine-tuning, NLL, samples, Figures 1 and 3."""
