"""Every figure that the README states has a script here, and the numbers it gave in `results/`."""
