"""One module a job: read inputs from the lake, call the pure code, write artefacts."""
