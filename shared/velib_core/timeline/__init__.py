"""Instants in; bins, days, windows and local time out."""
