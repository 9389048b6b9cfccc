"""Function configurations in; a running object store, Pub/Sub and functions out."""
