"""The whole cloud on one machine: a simulated or recorded feed in, a lake of plain files out."""
