"""A family from outside: is a tone low or high? It transcribes nothing, and higher is better."""
