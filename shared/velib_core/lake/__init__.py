"""Object names and bytes in; listings, reads and generation-guarded writes out."""
