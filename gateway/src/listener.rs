//! Step 1: accepts a socket, within limits, and gives it to a tracked task.
