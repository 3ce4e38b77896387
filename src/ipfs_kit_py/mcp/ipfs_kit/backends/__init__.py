"""What is watched of the virtual file system: import the module that is needed."""
