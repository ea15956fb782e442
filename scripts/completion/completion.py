#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Writes the completion of a program for bash, zsh and fish, from the table of options that the
program itself prints (--print-options, common/opthelp.h). A line of the type "command" is a
command; one of the type "verb" is a word that follows the command in the field of commands.

The candidates for a value depend on its name in --help: see KINDS. The files are written to
DIRECTORY as PROGRAM (bash), _PROGRAM (zsh) and PROGRAM.fish.
Usage: completion.py NAME PROGRAM DIRECTORY
"""

import os
import subprocess
import sys

FIELDS = ("name", "short", "arg", "type", "flags", "range", "default", "commands", "help")
# The value's name in --help: compgen's option, zsh's message and action, fish's candidates.
KINDS = {
    "DIR": ("-d", "directory:_files -/", "(__fish_complete_directories)"),
    "PATH": ("-d", "directory:_files -/", "(__fish_complete_directories)"),
    "FILE": ("-f", "file:_files", None),
    "GROUP": ("-g", "group:_groups", "(__fish_complete_groups)"),
    "PID": ('-W "$(cd /proc && echo [0-9]*)"', "PID:_pids", "(__fish_complete_pids)"),
}
# The bit of tproxyctl itself, see struct optable.
NO_COMMAND = "-"
HEADER = """# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# {shell} completion for {name}(8), made by scripts/completion/completion.py
"""


class Row(dict):
    """A line of the table, by field."""

    def __init__(self, line):
        super().__init__(zip(FIELDS, line.split("\t")))
        self["commands"] = self["commands"].split()
        self["flags"] = self["flags"].split()

    def names(self):
        return [f"-{self['short']}"] * bool(self["short"]) + [f"--{self['name']}"]

    def words(self):
        return self["range"].replace(",", "") if self["type"] == "word" else None

    def description(self):
        return self["help"].partition(";")[0]


class Table:
    """The options and commands of a program."""

    def __init__(self, name, lines):
        rows = [Row(line) for line in lines]
        self.name = name
        self.commands = [row for row in rows if row["type"] == "command"]
        self.verbs = [row for row in rows if row["type"] == "verb"]
        self.options = [row for row in rows if row["type"] not in ("command", "verb")]

    def of_all(self):
        """The options that every command takes."""
        every = {command for row in self.options for command in row["commands"]} - {NO_COMMAND}
        return [row for row in self.options if every <= set(row["commands"])]

    def of_command(self, command):
        """The options that this command takes, and not every command."""
        of_all = self.of_all()
        return [row for row in self.options if command in row["commands"] and row not in of_all]

    def verbs_of(self, command, with_file=False):
        """The words that may follow this command, or those of them that a file follows."""
        return [row for row in self.verbs
                if command in row["commands"] and (row["arg"] == "FILE" or not with_file)]

    def with_options(self):
        """The commands but help and version, which take no options. help takes one of these."""
        return [row for row in self.commands
                if any(row["name"] in option["commands"] for option in self.options)]

    def of_none(self):
        """The options of a program, or of tproxyctl without a command."""
        return [row for row in self.options
                if not row["commands"] or NO_COMMAND in row["commands"]]


def names_of(rows):
    return " ".join(name for row in rows for name in row.names())


def bash_values(table):
    """The cases of the word before the one that is completed."""
    cases = {}
    for row in table.options:
        if row["arg"]:
            kind = f"-W '{row.words()}'" if row.words() else KINDS.get(row["arg"], ("",))[0]
            cases.setdefault(kind, []).extend(row.names())
    text = ""
    for kind, names in cases.items():
        text += "        " + " | ".join(names) + ")\n"
        if kind in ("-d", "-f"):
            text += "            compopt -o filenames\n"
        if kind:
            text += f'            mapfile -t COMPREPLY < <(compgen {kind} -- "$cur")\n'
        text += "            return\n            ;;\n"
    return text


def bash_verbs(table):
    """The cases of commands that a verb follows, and of verbs that a file follows."""
    text = ""
    for command in (row["name"] for row in table.commands):
        verbs = [row["name"] for row in table.verbs_of(command)]
        files = [row["name"] for row in table.verbs_of(command, with_file=True)]
        if verbs:
            text += f'    elif [ "${{COMP_WORDS[1]}}" = {command} ] && ' \
                '[ "$COMP_CWORD" -eq 2 ]; then\n' \
                f"        words='{' '.join(verbs)}'\n"
        if files:
            text += f'    elif [[ ${{COMP_WORDS[1]}} = {command} && $cur != -* &&\n' \
                f'        ${{COMP_WORDS[2]}} = @({"|".join(files)}) ]]; then\n' \
                "        compopt -o filenames\n" \
                '        mapfile -t COMPREPLY < <(compgen -f -- "$cur")\n        return\n'
    return text


def bash(table):
    function = "_" + table.name.replace("-", "_")
    words = f"    words='{names_of(table.options)}'\n"
    if table.commands:
        first = " ".join(row["name"] for row in table.commands)
        words = '    if [ "$COMP_CWORD" -eq 1 ]; then\n' \
            f"        words='{first} {names_of(table.of_none())}'\n" \
            '    elif [ "${COMP_WORDS[1]}" = help ] && [ "$COMP_CWORD" -eq 2 ]; then\n' \
            f"        words='{' '.join(row['name'] for row in table.with_options())}'\n" \
            '    elif [[ ${COMP_WORDS[1]} = help || ${COMP_WORDS[1]} = version ]]; then\n' \
            "        words=\n" + bash_verbs(table) + "    else\n" \
            f"        words='{names_of(table.of_all())}'\n"
        for row in table.commands:
            own = names_of(table.of_command(row["name"]))
            if own:
                words += f'        [ "${{COMP_WORDS[1]}}" = {row["name"]} ] && words+=\' {own}\'\n'
        words += "    fi\n"
    return HEADER.format(shell="bash", name=table.name) + f"""
{function}()
{{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} words

    # "=" is in COMP_WORDBREAKS, so an option and its value behind "=" are three words.
    if [ "$cur" = = ]; then
        cur=
    elif [ "$prev" = = ] && [ "$COMP_CWORD" -gt 2 ]; then
        prev=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    COMPREPLY=()
    case $prev in
{bash_values(table)}    esac
{words}    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}}

complete -F {function} {table.name}
"""


def zsh_quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


def zsh_option(row):
    """The specification of an option for _arguments."""
    description = row.description().replace("]", "\\]")
    value = ""
    if row["arg"]:
        other = row["arg"].replace(":", "\\:") + ": "
        value = ":" + (f"{row['arg'].lower()}:({row.words()})" if row.words() else
                       KINDS.get(row["arg"], (None, other))[1])
    rest = zsh_quote(f"[{description}]{value}")
    long = f"--{row['name']}" + ("=" if value else "")
    if not row["short"]:
        repeated = "*" if "repeated" in row["flags"] else ""
        return f"'{repeated}{long}'{rest}"
    repeated = "*" if "repeated" in row["flags"] else f"({' '.join(row.names())})"
    return f"'{repeated}'{{-{row['short']}{'+' if value else ''},{long}}}{rest}"


def zsh_list(rows, indent):
    return "".join(f"{indent}{zsh_option(row)}\n" for row in rows)


def zsh_commands(rows):
    text = "".join(f"        {zsh_quote(row['name'] + ':' + row.description())}\n" for row in rows)
    return f"    commands=(\n{text}    )\n"


def zsh(table):
    text = f"#compdef {table.name}\n" + HEADER.format(shell="zsh", name=table.name) + "\n"
    if not table.commands:
        return text + "local -a options\noptions=(\n" + zsh_list(table.options, "    ") + \
            ")\n_arguments -s -S $options\n"
    text += "local -a commands options\nif (( CURRENT == 2 )); then\n"
    text += zsh_commands(table.commands) + "    options=(\n"
    text += zsh_list(table.of_none(), "        ") + """    )
    if [[ $PREFIX == -* ]]; then
        _arguments $options
    else
        _describe command commands
    fi
    return
fi
if [[ $words[2] == help ]] && (( CURRENT == 3 )); then
""" + zsh_commands(table.with_options()) + """    _describe command commands
    return
fi
[[ $words[2] == (help|version) ]] && return
options=(
""" + zsh_list(table.of_all(), "    ") + ")\ncase $words[2] in\n"
    for row in table.commands:
        own = zsh_list(table.of_command(row["name"]), "        ")
        verbs = [verb["name"] for verb in table.verbs_of(row["name"])]
        if verbs:
            own += f"        ':verb:({' '.join(verbs)})' ':file:_files'\n"
        if own:
            text += f"{row['name']})\n    options+=(\n{own}    )\n    ;;\n"
    return text + "esac\n_arguments -s -S ':command: ' $options\n"


def fish_quote(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish_option(table, row):
    line = f"complete -c {table.name}"
    commands = [command for command in row["commands"] if command != NO_COMMAND]
    if NO_COMMAND in row["commands"]:
        # With a command too: no condition.
        line += "" if commands else " -n __fish_use_subcommand"
    elif commands:
        line += f" -n '__fish_seen_subcommand_from {' '.join(commands)}'"
    if row["short"]:
        line += f" -s {row['short']}"
    line += f" -l {row['name']}"
    if row["arg"] == "FILE":
        line += " -r -F"
    elif row["arg"]:
        candidates = row.words() or KINDS.get(row["arg"], (None, None, None))[2]
        line += " -x" + (f" -a '{candidates}'" if candidates else "")
    return f"{line} -d {fish_quote(row.description())}\n"


def fish_verbs(table):
    text = ""
    for command in (row["name"] for row in table.commands):
        verbs = table.verbs_of(command)
        seen = f"__fish_seen_subcommand_from {command}"
        names = " ".join(row["name"] for row in verbs)
        files = " ".join(row["name"] for row in table.verbs_of(command, with_file=True))
        for row in verbs:
            text += f"complete -c {table.name}" \
                f" -n '{seen}; and not __fish_seen_subcommand_from {names}'" \
                f" -a {row['name']} -d {fish_quote(row.description())}\n"
        if files:
            text += f"complete -c {table.name}" \
                f" -n '{seen}; and __fish_seen_subcommand_from {files}' -F\n"
    return text


def fish(table):
    text = HEADER.format(shell="fish", name=table.name) + f"\ncomplete -c {table.name} -f\n"
    for row in table.commands:
        text += f"complete -c {table.name} -n __fish_use_subcommand -a {row['name']}" \
            f" -d {fish_quote(row.description())}\n"
    for row in table.with_options():
        text += f"complete -c {table.name} -n '__fish_seen_subcommand_from help'" \
            f" -a {row['name']} -d {fish_quote(row.description())}\n"
    return text + fish_verbs(table) + "".join(fish_option(table, row) for row in table.options)


def main():
    name, program, directory = sys.argv[1:]
    said = subprocess.run([program, "--print-options"], text=True, stdout=subprocess.PIPE,
                          check=True).stdout
    table = Table(name, said.splitlines())
    for file, text in ((name, bash(table)), (f"_{name}", zsh(table)),
                       (f"{name}.fish", fish(table))):
        with open(os.path.join(directory, file), "w", encoding="utf-8") as out:
            out.write(text)


if __name__ == "__main__":
    main()
