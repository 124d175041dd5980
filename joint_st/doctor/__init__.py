"""`joint-st doctor`: finds what would go wrong with a run before it costs anything."""
