"""Programs in several processes of this machine: run by `make test-processes` alone."""
