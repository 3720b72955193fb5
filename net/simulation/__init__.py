"""Clusters of real replicas in virtual time, where one seed decides everything that goes wrong."""
