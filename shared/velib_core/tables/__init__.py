"""Rows and objects in; snapshots, views and panels of the network out."""
