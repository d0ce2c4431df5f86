"""The service in containers: images that are built, composed services that are killed, pods on a cluster."""
