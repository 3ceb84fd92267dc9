"""The command `mhnet`: a file for each subcommand, or for a few."""
