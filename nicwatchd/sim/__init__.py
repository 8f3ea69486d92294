"""A simulated EC2 host: a VPC of network namespaces, and an IMDS with scripted lag and faults."""
