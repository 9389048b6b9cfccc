"""Forecasts and what happened in; documents on their errors and causes out."""
