"""The library behind every function: feed → snapshot → lake → panel → features → forecast."""
