"""Divides the sources of one target into jumbo units: files that are compiled together as one.

usage: plan_units.py ROOT MAX_FILES FILE...     prints one unit a line: paths relative to ROOT, divided by spaces

Files of one unit share their anonymous namespaces and all their includes, so a file that declares a file-local
name never meets another that declares the same, or includes a header of the project that does. Otherwise neighbours by path stay together, at most MAX_FILES of them. A name that this reading of the text
misses shows as a redefinition when the unit is compiled: rename it, or give one of the files the source
property SKIP_UNITY_BUILD_INCLUSION.
"""

import functools
import re
import sys
from pathlib import Path

# Comments, raw strings, strings and characters: nothing in them is a brace or a name.
TEXT = re.compile(r'//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)
OPERATOR = re.compile(r'\boperator\s*[^\s\w(]+')
KEYWORDS = {'if', 'for', 'while', 'switch', 'return', 'sizeof', 'alignas', 'decltype', 'noexcept', 'static_assert', 'template',
            'requires', 'operator', '__attribute__', 'explicit'}


def code_of(text):
    text = TEXT.sub(lambda match: '' if match[0].startswith('/') else '0', text)
    text = re.sub(r'(?m)^\s*#(?:\\\n|[^\n])*', '', text)
    return OPERATOR.sub('operator', text)


def end_of_braces(code, start):
    """The position after the brace that closes the one at `start`."""
    depth = 0
    for match in re.compile(r'[{}]').finditer(code, start):
        depth += 1 if match[0] == '{' else -1
        if depth == 0:
            return match.end()
    return len(code)


def without_bodies(code):
    """`code` with what stands in braces left out, and each closing brace the end of a declaration."""
    out, position = [], 0
    while (brace := code.find('{', position)) >= 0:
        out.append(code[position:brace])
        position = end_of_braces(code, brace)
        out.append('{};')
    return ''.join(out) + code[position:]


def name_of(declaration):
    """(name, what has to agree for a second one to be allowed) of one declaration, or None."""
    words = ' '.join(declaration.split())
    if match := re.match(r'(?:using|namespace) (\w+)\s*=', words):
        return match[1], words
    if re.match(r'(?:using|friend)\b|[A-Z_]+\(', words):  # a using-declaration, or a macro such as TEST(
        return None
    if match := re.match(r'(?:template\s*<.*>\s*)?(?:struct|class|enum class|enum|union) (?:\[\[\w+\]\] )?(\w+)', words):
        return match[1], None
    head = re.split(r'\{\}|=', words)[0]
    if match := re.search(r'([A-Za-z_]\w*)(?:\s*\[[^\]]*\])*\s*$', head):
        if '(' not in head:
            return (match[1], None) if ' ' in head else None
    for match in re.finditer(r'([A-Za-z_]\w*)\s*\(', head):
        if match[1] not in KEYWORDS and not head[:match.start()].endswith('::'):
            return match[1], None
    return None


def names_of(declarations):
    names = {}
    for declaration in declarations:
        if found := name_of(declaration.removeprefix('{}')):
            names.setdefault(*found)
    return names


def declarations_in(code, opening):
    """The declarations right in each namespace whose beginning matches `opening`, not those in further braces."""
    for match in re.finditer(opening, code):
        yield from without_bodies(code[match.end():end_of_braces(code, match.end() - 1) - 1]).split(';')


@functools.cache
def header_names(path):
    """What a header of the project declares for everyone, with the headers that it includes itself."""
    text = path.read_text()
    names = names_of(declarations_in(code_of(text), r'\bnamespace\s+\w+\s*\{'))
    for header in included(text):
        names = header_names(header) | names
    return names


def included(text):
    for name in re.findall(r'(?m)^#include "(.*)"', text):
        if (ROOT / name).exists():
            yield ROOT / name


class Source:
    def __init__(self, path):
        text = (ROOT / path).read_text()
        code = code_of(text)
        statics = re.findall(r'(?m)^static\s[^;{]*', code)  # at the start of a line: no member, no local variable
        self.path = path
        self.local = names_of([*declarations_in(code, r'\bnamespace\s*\{'), *statics])
        self.seen = {}
        for header in included(text):
            self.seen |= header_names(header)

    def clashes(self, other):
        return shared(self.local, other.local) or shared(self.local, other.seen) or shared(self.seen, other.local)


def shared(one, other):
    return [name for name in one.keys() & other.keys() if one[name] is None or one[name] != other[name]]


def plan(sources, limit):
    units = []
    for source in sources:
        for unit in units:
            if len(unit) < limit and not any(source.clashes(member) for member in unit):
                unit.append(source)
                break
        else:
            units.append([source])
    return units


ROOT = Path(sys.argv[1])
for unit in plan([Source(path) for path in sorted(sys.argv[3:])], int(sys.argv[2])):
    print(' '.join(source.path for source in unit))
