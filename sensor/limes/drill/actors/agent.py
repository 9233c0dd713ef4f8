"""The agent's tool runner: each line {"command"} is run by bash, as an agent's tool call is.

Stands alone. Answers {"status", "pid", "output"}; ends when its input ends.
"""

import json
import subprocess
import sys


def main() -> None:
    """Run tool calls one after the other until the input ends."""
    for line in sys.stdin:
        command = json.loads(line)["command"]
        with subprocess.Popen(
            ["/bin/bash", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        ) as tool:
            output, _ = tool.communicate()
        answer = {"status": tool.returncode, "pid": tool.pid, "output": output.decode()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
