"""A panel in; the features of every station and bin, and station profiles, out."""
