"""The page people use: the Canvas in a browser. Everything it does goes through the HTTP API."""
