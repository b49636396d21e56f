"""NumPy in, numbers out."""
