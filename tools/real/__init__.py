"""The whole way of a real model, from the hub to its answers, tried and measured: `make real`."""
