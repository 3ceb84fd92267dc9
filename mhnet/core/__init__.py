"""What all other folders use: errors, files, devices, tasks."""
