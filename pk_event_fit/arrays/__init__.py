"""Array libraries, one file each."""
