"""The whole cloud on one machine: servers, wiring, a simulated city, replay and the command."""
