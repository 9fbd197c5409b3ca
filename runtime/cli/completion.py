"""`greenroom completion`: scripts for shells, made from the parser, so that they cannot differ from it."""

from __future__ import annotations

import argparse
from argparse import Namespace

from .output import give
from .parser import parser

BASH = """_greenroom() {{
    local words
    case ${{COMP_WORDS[1]}} in
{cases}
        *) words="{commands}" ;;
    esac
    [[ $COMP_CWORD -eq 1 ]] && words="{commands}"
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _greenroom greenroom"""


def completion(options: Namespace) -> int:
    """Give the script."""
    words = vocabulary()
    if options.shell == "fish":
        give("\n".join(_fish(words)))
        return 0
    cases = "\n".join(f'        {name}) words="{" ".join(flags)}" ;;' for name, flags in words.items())
    script = BASH.format(cases=cases, commands=" ".join(words))
    give(script if options.shell == "bash" else f"autoload -U +X bashcompinit && bashcompinit\n{script}")
    return 0


def vocabulary() -> dict[str, list[str]]:
    """Return every command with its long options."""
    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return {
        name: sorted(
            option
            for action in command._actions
            if action.help is not argparse.SUPPRESS
            for option in action.option_strings
            if option.startswith("--")
        )
        for name, command in commands.choices.items()
    }


def _fish(words: dict[str, list[str]]) -> list[str]:
    lines = [f"complete -c greenroom -f -n __fish_use_subcommand -a '{' '.join(words)}'"]
    for name, flags in words.items():
        lines += [f"complete -c greenroom -n '__fish_seen_subcommand_from {name}' -l {flag[2:]}" for flag in flags]
    return lines
