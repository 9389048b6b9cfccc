"""Tables and panels in; the documents of the contract out, one module a family."""
