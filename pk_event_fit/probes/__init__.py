"""What is measured of a framework besides a fit: one probe a file, each run in a fresh process."""
