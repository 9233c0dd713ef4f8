"""The host sensor: kernel records drained as columns and streamed; no control plane in here."""
