"""One module a command: options in, a call of the code behind it, an exit code out."""
