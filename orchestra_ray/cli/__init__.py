"""What the commands of the command line do beside starting runs. No Ray, no torch."""
