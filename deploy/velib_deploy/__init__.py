"""Function configurations in; the plan, the staged sources and the drift of a deployment out."""
