"""The load rig: several proxies, the same work, one core each, in turns."""
