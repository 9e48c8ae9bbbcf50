"""What the stations on text share: captioned scenes, words as numbers, encoders, guidance, a measure of what is shown."""
