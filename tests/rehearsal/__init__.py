"""A rehearsal: a local control plane that speaks Google Cloud's REST, and the real gcloud on it."""
