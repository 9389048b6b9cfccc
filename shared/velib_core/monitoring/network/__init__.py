"""Observations in; documents on the network, its stations and its stockouts out."""
