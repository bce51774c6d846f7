#pragma once

namespace espalier {

// The commit that the program was built from, "-dirty" behind it where files differed; "unknown"
// when it was built outside of git. In a source of its own, the only one that a new commit
// compiles.
const char* commit_of_program();

}  // namespace espalier
