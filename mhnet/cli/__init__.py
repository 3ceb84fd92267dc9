"""The command `mhnet`: a file for each subcommand."""
