"""Hunts: one SELECT each, in a killable process of its own, on a snapshot that states its age.

The server makes snapshots (`snapshot`), starts and watches workers (`process`) and answers calls
(`service`); a worker (`worker`) locks itself down (`guard`) before it reads the question.
"""
