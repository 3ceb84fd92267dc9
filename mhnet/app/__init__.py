"""`mhnet app`: a page in the browser for those who want to look and not to type."""
