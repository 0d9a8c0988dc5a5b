"""`make demo`: a client tells the story against the running server and checks every step."""
