"""The kernel, over rtnetlink. The only home of pyroute2."""
