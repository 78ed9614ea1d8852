"""How each proxy is told to do the same work.

Each has one worker, a table of hosts that all lead to one origin over kept connections, adds the
forwarded headers and a request id, and writes one line per request, in batches where it can, to a
file. Bodies stream: nothing is spilled to a disk. Over TLS, nobody gives out tickets.
"""
