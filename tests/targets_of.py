"""Prints the build targets that the tests whose names match need: targets_of.py BUILD_FOLDER REGEX

GoogleTest's tests are known to CTest only when their program is built, so their names are read from the sources
(programs.txt in the build folder says which program has which); for all others CTest is asked.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

TEST = re.compile(r'^TEST(_F|_P|)\(\s*(\w+),\s*(\w+)\)', re.MULTILINE)


def may_match(regex, kind, suite, name):
    if kind == '_P':  # Instance/Suite.Name/parameter: an anchor says nothing about the part between the slashes
        regex = regex.removeprefix('^').removesuffix('$')
        if '/' in regex:
            return True
    return re.search(regex, f'{suite}.{name}') is not None


def main():
    build, regex = Path(sys.argv[1]), sys.argv[2]
    wanted, programs = set(), {}
    for line in (build / 'programs.txt').read_text().splitlines():
        target, *sources = line.split()
        programs[target] = sources
        tests = [test for source in sources for test in TEST.findall(Path(source).read_text())]
        # A program that is one CTest entry, of its own name; CTest knows no command of it before it is built.
        if re.search(regex, target) or any(may_match(regex, *test) for test in tests):
            wanted.add(target)
    listed = subprocess.run(['ctest', '--test-dir', build, '--show-only=json-v1', '-R', regex], check=True, capture_output=True)
    for test in json.loads(listed.stdout)['tests']:
        wanted |= {Path(word).name for word in test.get('command', [])} & programs.keys()
    print(' '.join(sorted(wanted)))


if __name__ == '__main__':
    main()
