"""Data to train and test on: pairs, crops, packs, synthetic rain and blur."""
