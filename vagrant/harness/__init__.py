"""The VM harness: builds images from Debian packages, boots them under emulation, runs commands."""
