"""A run as one HTML page: results, curves, and utterances to listen to and to look at, without a server or a
network."""
