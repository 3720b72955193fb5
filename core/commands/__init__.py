"""What the command line does, apart from drawing: start, run, doctor."""
