"""The command `mhnet doctor`."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from mhnet.cli.usage import add_command
from mhnet.core.terminal import paint

if TYPE_CHECKING:
    from mhnet.cli.checkup import Finding

COLOURS = {"ok": "green", "missing": "yellow", "broken": "red"}


def add_doctor_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds it; what it needs is imported when it runs."""
    doctor = add_command(
        commands,
        "doctor",
        "look whether everything is here that MHNet needs",
        "Prints versions, devices with their memory, what is missing and how to get it; writes and reads each kind of "
        "image, and runs a small network on each device. Exits with 1 when something is broken that MHNet needs.",
        """
        mhnet doctor
        mhnet doctor --json > doctor.json          to go with a report of a defect
        """,
    )
    doctor.add_argument("--json", action="store_true", help="print it as JSON")
    doctor.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from mhnet.cli.checkup import BROKEN, examine

    findings = []
    for finding in examine():
        if not args.json:
            _tell(finding, new_group=not findings or findings[-1].group != finding.group)
        findings.append(finding)
    broken = [finding for finding in findings if finding.state == BROKEN]
    if args.json:
        print(json.dumps({"ok": not broken, "findings": [asdict(finding) for finding in findings]}, indent=2))
    elif broken:
        print(f"\n{len(broken)} broken: {', '.join(finding.name for finding in broken)}")
    else:
        print("\nEverything that MHNet needs is here.")
    return int(bool(broken))


def _tell(finding: "Finding", new_group: bool) -> None:
    if new_group:
        print(paint(finding.group, "bold", sys.stdout))
    remedy = f": {finding.remedy}" if finding.remedy else ""
    state = paint(f"{finding.state:<8}", COLOURS[finding.state], sys.stdout)
    print(f"  {state}{finding.name:<20} {finding.detail}{remedy}", flush=True)
