"""The published face of the virtual file system to agents: import the module that is needed."""
