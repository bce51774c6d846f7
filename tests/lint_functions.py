"""Names functions of more than LIMIT lines: lint_functions.py LIMIT FILE...

Reads text, not a syntax tree, and relies on the project's format: what opens a brace in a namespace or a class and
has a parameter list is a function. Lines inside raw strings (style sheets, pages) do not count. Exits 1
when it has named one.
"""

import re
import sys
from pathlib import Path

TEXT = re.compile(r'//[^\n]*|/\*.*?\*/|(?P<raw>R"([^(\s]*)\(.*?\)\2")|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)
SCOPE = re.compile(r'(?:inline\s+)?namespace\b|extern\s+""$|(?:class|struct|union)\b[^()]*$')
# `Name(...) : member_` or `..., member_`: what follows the brace initialises a member.
INITIALIZER = re.compile(r'\)[^;{}]*(?<!:):(?!:)\s*[\w:<>, ()&*.-]*[\w>]\s*$', re.DOTALL)
RAW_LINE = '\x01'  # ends a line inside a raw string


def blanked(match):
    if match['raw']:
        return '""' + RAW_LINE * match[0].count('\n')
    return '""' if match[0][0] == '"' else '0' if match[0][0] == "'" else '\n' * match[0].count('\n')


def code_of(text):
    code = TEXT.sub(blanked, text)
    return re.sub(r'(?m)^[ \t]*#(?:[^\n\\]|\\(?!\n)|\\\n)*', lambda m: '\n' * m[0].count('\n'), code)


def end_of_braces(code, start):
    depth = 0
    for position in range(start, len(code)):
        depth += {'{': 1, '}': -1}.get(code[position], 0)
        if depth == 0:
            return position
    return len(code) - 1


def without_template(head):
    head = head.strip()
    while match := re.match(r'template\s*<', head):
        depth, position = 1, match.end()
        while depth and position < len(head):
            depth += {'<': 1, '>': -1}.get(head[position], 0)
            position += 1
        head = head[position:].strip()
    return re.sub(r'^\[\[.*?\]\]\s*|alignas\([^)]*\)\s*', '', head)


def functions(code):
    """Yields (name, first line, lines) of each function, lambdas and local classes counted in."""
    head_start, position = 0, 0
    while position < len(code):
        character = code[position]
        if character in ';}':
            head_start = position + 1
        elif character == '{':
            head = code[head_start:position]
            plain = without_template(re.sub(r'\b(public|private|protected)\s*:', '', head))
            if SCOPE.match(plain):
                head_start = position + 1
            else:
                end = end_of_braces(code, position)
                if INITIALIZER.search(plain) and code[end + 1:].lstrip()[:1] in ',{':
                    code = code[:position] + '(' + code[position + 1:end].replace('{', '(').replace('}', ')').replace(';', ',') + ')' + code[end + 1:]
                    continue
                name = re.search(r'([\w:~]+|operator\S+)\s*\(', plain)
                if name and not re.match(r'(enum|using)\b', plain) and not re.search(r'=\s*$', plain):
                    begin = head_start + len(head) - len(head.lstrip())
                    first = 1 + code.count('\n', 0, begin) + code.count(RAW_LINE, 0, begin)
                    yield name[1], first, 1 + code.count('\n', begin, end)
                position = end
                head_start = end + 1
        position += 1


def main():
    limit, failed = int(sys.argv[1]), False
    for path in sys.argv[2:]:
        for name, line, lines in functions(code_of(Path(path).read_text())):
            if lines > limit:
                print(f'{path}:{line}: {name}() has {lines} lines; divide it ({limit} at most)')
                failed = True
    return failed


if __name__ == '__main__':
    sys.exit(main())
