"""Where arrays live: the mesh of devices, the rules that spread parameters over it, and the placing of host arrays."""
