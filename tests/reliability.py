"""The table of docs/reliability.md from the junit files of a run of the tests: ``make reliability``."""

from __future__ import annotations

import base64
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from datetime import date
from itertools import groupby

HEAD = """\
# Reliability

What was tried on {when}, made by `make reliability` from the results of the tests themselves: a row is a test, its
words are the test's name, "cases" how many variants of it ran, "inputs" what hypothesis drew and the test survived.
Of the longer tests of `make nightly` those of load and of SLURM are among them where they were run, many
times as many random networks are not.

A certified or lower value of a table is proved again from its certificate, for the network that is exported again from
the weights. Nothing proves the other cells: seconds, memory, accuracy, iterations, what papers report, and estimates.
What no proof shows either is that trained or fetched weights are those of the training or publication they name.
"""

Case = tuple[str, str, str, float, dict[str, str]]
"""Module, name, outcome, seconds, figures that the test recorded."""


def main(paths: list[str]) -> str:
    cases: list[Case] = []
    when = ""
    for suite in (suite for path in paths for suite in ElementTree.parse(path).iter("testsuite")):
        drawn = Counter[str]()
        for found in suite.iterfind("properties/property"):
            test = re.sub(r"\[.*", "", found.attrib["name"]).rpartition("::")[2]
            text = base64.b64decode(found.attrib["value"]).decode()
            drawn[test] += sum(map(int, re.findall(r"(\d+) passing", text)))
        when = suite.attrib["timestamp"][:10]
        for case in suite.iterfind("testcase[@name]"):
            name = case.attrib["name"].partition("[")[0]
            figures = {p.attrib["name"]: p.attrib["value"] for p in case.iterfind("properties/property")}
            figures |= {"inputs": str(drawn[name])} if drawn[name] else {}
            tags = {child.tag for child in case}
            outcome = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
            cases.append((case.attrib["classname"], name, outcome, float(case.attrib["time"]), figures))
    lines = [HEAD.format(when=date.fromisoformat(when))]
    modules = list(dict.fromkeys(case[0] for case in cases))  # one may stand in several files
    for module, of_module in groupby(sorted(cases, key=lambda c: modules.index(c[0])), key=lambda case: case[0]):
        lines += [
            f"## `{module.replace('.', '/')}.py`",
            "",
            "| what | cases | seconds | figures |",
            "|---|---|---|---|",
        ]
        for name, same in groupby(of_module, key=lambda case: case[1]):
            lines.append(_row(name, list(same)))
        lines.append("")
    return "\n".join(lines)


def _row(name: str, cases: list[Case]) -> str:
    outcomes = Counter(outcome for _, _, outcome, _, _ in cases)
    counted = ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items())
    figures = {key: value for *_, recorded in cases for key, value in recorded.items()}
    told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in figures.items())
    sentence = name.removeprefix("test_").replace("_", " ")
    return f"| {sentence} | {counted} | {sum(case[3] for case in cases):.0f} | {told} |"


if __name__ == "__main__":
    print(main(sys.argv[1:]), end="")
