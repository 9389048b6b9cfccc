"""A recording in; predictions, errors against persistence and a page of plots out."""
