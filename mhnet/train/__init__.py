"""Training: settings, the loop, and what a run saves."""
