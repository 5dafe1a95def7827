#!/usr/bin/env python3
"""Manual pages from the argument parser: `manual.py BINARY FOLDER` writes dmae.1 and a page for each command.

All text is that of the help screens, as `BINARY --experimental-dump-help` prints it. `make install` runs this.
"""

import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path


def escaped(text):
    """Text as roff takes it. Every hyphen is a minus sign, so that options can be copied from a page."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.split("\n"))


def prose(text):
    """The same, with code between backquotes in bold."""
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fP", escaped(text))


def discussion(text):
    """Paragraphs are filled; lines that are indented keep their breaks."""
    lines = []
    for paragraph in text.strip("\n").split("\n\n"):
        rows = paragraph.split("\n")
        if rows[0].startswith(" "):
            indent = min(len(row) - len(row.lstrip()) for row in rows)
            lines += [".PP", ".RS 4", ".nf", *(escaped(row[indent:]) for row in rows), ".fi", ".RE"]
        else:
            lines += [".PP", *(prose(row) for row in rows)]
    return lines[1:] if lines and lines[0] == ".PP" else lines


def spelling(name):
    return escaped(("-" if name["kind"] == "short" else "--") + name["name"])


def term(argument):
    """The names of an argument, and its value."""
    value = f"\\fI{escaped(argument['valueName'])}\\fP"
    if argument["kind"] == "positional":
        return value
    names = ", ".join(f"\\fB{spelling(name)}\\fP" for name in argument["names"])
    return names + (f" {value}" if argument["kind"] == "option" else "")


def joined(arguments):
    """The parser lists both forms of a flag that can be turned off; here they are one."""
    result = []
    for argument in arguments:
        names = argument.get("names", [])
        if result and names and names[0]["name"] == "no-" + result[-1].get("names", [{"name": ""}])[0]["name"]:
            result[-1] = result[-1] | {"names": result[-1]["names"] + names}
        else:
            result.append(argument)
    return result


def explanation(argument):
    rest = []
    if values := argument.get("allValues"):
        rest.append("values: " + ", ".join(values))
    if default := argument.get("defaultValue"):
        rest.append(f"default: {default}")
    return (argument.get("abstract", "") + (f" ({'; '.join(rest)})" if rest else "")).strip()


def synopsis(arguments):
    words = []
    for argument in arguments:
        if argument["isOptional"]:
            continue
        value = f"\\fI{escaped(argument['valueName'])}\\fP" + (" ..." if argument["isRepeating"] else "")
        words.append(value if argument["kind"] == "positional"
                     else f"\\fB{spelling(argument['preferredName'])}\\fP {value}")
    optional = any(argument["isOptional"] for argument in arguments)
    return " ".join((["[\\fIoptions\\fP]"] if optional else []) + words)


def page(command, path, version, date, others):
    name = "-".join(path)
    arguments = joined(argument for argument in command.get("arguments", []) if argument["shouldDisplay"])
    lines = [f'.TH {escaped(name.upper())} 1 "{date}" "dmae {version}" "dmae"', ".SH NAME",
             f"{escaped(name)} \\- {prose(command['abstract'].rstrip('.'))}", ".SH SYNOPSIS"]
    rest = "\\fIcommand\\fP ..." if command.get("subcommands") else synopsis(arguments)
    lines.append(f"\\fB{' '.join(path)}\\fP {rest}")
    if command.get("discussion"):
        lines += [".SH DESCRIPTION", *discussion(command["discussion"])]
    if commands := [each for each in command.get("subcommands", []) if each["commandName"] != "help"]:
        lines.append(".SH COMMANDS")
        for each in commands:
            lines += [".TP", f"\\fB{escaped(name)}\\-{each['commandName']}\\fP(1)", prose(each["abstract"])]
    # Titled groups first, as on the help screens.
    titles = list(dict.fromkeys(argument.get("sectionTitle", "") for argument in arguments))
    for title in sorted(titles, key=lambda title: title == ""):
        lines.append(f".SH {title.upper() or 'OPTIONS'}")
        for argument in arguments:
            if argument.get("sectionTitle", "") == title:
                lines += [".TP", term(argument), prose(explanation(argument))]
    lines += [".SH SEE ALSO", ",\n".join(f"\\fB{escaped(other)}\\fP(1)" for other in others if other != name)]
    return "\n".join(lines) + "\n"


def main():
    binary, folder = sys.argv[1], Path(sys.argv[2])

    def output(option):
        return subprocess.run([binary, option], check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8").stdout

    root, version = json.loads(output("--experimental-dump-help"))["command"], output("--version").split()[0]
    date = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", datetime.datetime.now().timestamp())),
                                           datetime.timezone.utc).date()
    pages = {root["commandName"]: (root, [root["commandName"]])}
    for command in root["subcommands"]:
        if command["shouldDisplay"] and command["commandName"] != "help":
            pages[f"{root['commandName']}-{command['commandName']}"] = (command, [root["commandName"],
                                                                                  command["commandName"]])
    folder.mkdir(parents=True, exist_ok=True)
    for name, (command, path) in pages.items():
        (folder / f"{name}.1").write_text(page(command, path, version, date, list(pages)), encoding="utf-8")


if __name__ == "__main__":
    main()
