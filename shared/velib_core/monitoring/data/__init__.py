"""Observations in; documents on freshness, health and drift of the data out."""
