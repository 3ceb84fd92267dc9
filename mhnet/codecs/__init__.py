"""What is inside an image file, kind by kind; `mhnet.images` and `mhnet.pictures` are the doors."""
