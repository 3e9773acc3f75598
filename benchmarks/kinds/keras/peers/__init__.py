"""Each peer is a way of a worker to run the cases."""
