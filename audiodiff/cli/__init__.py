"""The commands `audiodiff` and `generate-wav`."""
