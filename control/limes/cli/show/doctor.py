"""Owns how the findings of `limes doctor` look.

Invariant: each signal is there, with the hook that serves it or the reason why none does.
"""

import errno
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Final

from limes.cli.examine import Findings
from limes.cli.output import Form, console, safe, write_json
from limes.cli.show.text import hanging
from limes.sensor.source import HookState
from rich.text import Text

_MARKS: Final = {
    "attached": ("✓", "green"),
    "refused": ("✗", "yellow"),
    "not_used": ("·", "dim"),
}
_NAME: Final = 20


def show_findings(findings: Findings, form: Form) -> None:
    """Show what was found, for a person or as one JSON object."""
    if form is Form.JSON:
        write_json({**asdict(findings), "blind": findings.blind, "sees_all": findings.sees_all})
        return
    screen = console()
    width = min(screen.width, 100)
    for fact in findings.facts:
        screen.print(Text.assemble((f"{fact.name:<10} ", "bold"), safe(fact.found)))
        if fact.problem:
            problem = hanging(safe(fact.problem), width - 13, 4, 13)
            screen.print(Text(f"{'':<11}→ {problem}", "yellow"), soft_wrap=True)
    screen.print()
    for line in _hooks(findings, width):
        screen.print(line, soft_wrap=True)
    screen.print(_summary(findings, width), soft_wrap=True)


def _hooks(findings: Findings, width: int) -> list[Text]:
    """Return a line a hook, those of one way to a signal together, with what is to be said."""
    lines: list[Text] = []
    before = ""
    for (signal, _), group in groupby(findings.hooks, key=lambda hook: (hook.signal, hook.plan)):
        hooks = list(group)
        for hook in hooks:
            name = signal if signal != before else ""
            before = signal
            mark, style = _MARKS.get(hook.state, ("?", ""))
            lines.append(
                Text.assemble((f"{name:<{_NAME}}", "bold"), (f"{mark} ", style), hook.hook)
            )
        for detail in _details(hooks):
            indent = _NAME + 4
            text = hanging(safe(detail), width - indent, 3, indent)
            lines.append(Text(" " * indent + text, "dim"))
    return lines


def _details(hooks: Sequence[HookState]) -> list[str]:
    """Return what is to be said of the hooks of one way: a refusal speaks for its neighbours."""
    refused = [hook for hook in hooks if hook.state == "refused"]
    if refused:
        names = (errno.errorcode.get(hook.error, str(hook.error)) for hook in refused)
        said = (f"{name}: {hook.detail}" for name, hook in zip(names, refused, strict=True))
        return [f"refused by the kernel, {text}" for text in dict.fromkeys(said)]
    return [text for text in dict.fromkeys(hook.detail for hook in hooks) if text]


def _summary(findings: Findings, width: int) -> Text:
    if findings.untried:
        text = f"No hook was tried. {findings.untried}"
        return Text(hanging(safe(text), width, 6, 0), "yellow")
    attached = sum(hook.state == "attached" for hook in findings.hooks)
    said = f"\n{attached} hooks work, through {findings.loader}, plan {findings.plan}. "
    if findings.sees_all:
        return Text(f"{said}Every signal is seen.", "green")
    text = f"{said}Not seen on this host: {', '.join(findings.blind)}."
    if any("syscall_hooks" in hook.detail for hook in findings.hooks):
        text += (
            "\nHooks on every system call would show more, and slow all of them: --syscall-hooks "
            "tries them."
        )
    return Text(text, "yellow")
